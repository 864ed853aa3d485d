"""Serving what the store has: all of it, under the names of `localllm list`, as it comes and goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from localllm.errors import ModelNotFound
from localllm.hardware.types import LoadOptions
from localllm.server import directory
from localllm.server.manager import ModelManager
from localllm.server.shelf import StoreShelf
from tests.gguf.raw import TEXT, pair
from tests.server.fakes import Loader, entries
from tests.server.managing import run, use
from tests.store.layouts import HubCache, Ollama, tiny_gguf, write_file

pytestmark = pytest.mark.usefixtures("no_demo")


def shelf(*but: Path) -> StoreShelf:
    return StoreShelf(LoadOptions(), (), frozenset(but))


def names(manager: ModelManager) -> list[str]:
    return [model.name for model in manager.models]


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may be looked at again at once."""
    monkeypatch.setattr(directory, "LOOK_S", 0.0)


def test_all_models_have_the_names_that_list_shows(hub: HubCache, ollama: Ollama, own: Path) -> None:
    hub.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    ollama.add("llama3.2", "1b", tiny_gguf(2))
    write_file(own / "mine.gguf", tiny_gguf(3))
    found = shelf().entries()
    assert {entry.name for entry in found} == {"org/repo:Q4_K_M", "llama3.2:1b", "mine"}
    manager = ModelManager(found, Loader())
    assert manager.find("org/repo").name == manager.find("x-Q4_K_M").name == "org/repo:Q4_K_M"


def test_what_is_no_model_to_ask_is_left_out(own: Path) -> None:
    write_file(own / "adapter.gguf", tiny_gguf(1, pairs=(pair("general.type", TEXT, "adapter"),)))
    write_file(own / "mmproj-model-f16.gguf", tiny_gguf(2))
    write_file(own / "damaged.gguf", b"GGUF and no more")
    kept = write_file(own / "model.gguf", tiny_gguf(3))
    assert [entry.path for entry in shelf().entries()] == [kept]


def test_file_that_the_user_named_is_not_served_twice(own: Path) -> None:
    first, second = (write_file(own / f"{name}.gguf", tiny_gguf(seed)) for seed, name in enumerate("ab"))
    assert [entry.path for entry in shelf(first).entries()] == [second]


@pytest.mark.usefixtures("no_patience")
def test_model_that_comes_while_the_server_runs_can_be_asked_for(own: Path) -> None:
    manager = ModelManager(entries("a"), Loader(), more=shelf().entries)

    async def work() -> None:
        with pytest.raises(ModelNotFound, match="newcomer"):
            await manager.seek("newcomer")
        file = write_file(own / "newcomer.gguf", tiny_gguf(1))
        assert await use(manager, "newcomer") == "newcomer"
        assert names(manager) == ["a", "newcomer"]
        file.unlink()
        await manager.look()
        assert names(manager) == ["a", "newcomer"], "it is loaded, so it stays"
        await manager.unload("newcomer")
        await manager.look()
        assert names(manager) == ["a"]
        assert manager.find(None).name == "a"

    run(work)


@pytest.mark.usefixtures("no_patience")
def test_state_of_a_model_outlives_a_look(own: Path) -> None:
    write_file(own / "b.gguf", tiny_gguf(1))
    manager = ModelManager(entries("a"), Loader(), more=shelf().entries)

    async def work() -> None:
        await use(manager, "b")
        manager.pin("b", pinned=True)
        await manager.look()
        assert manager.find("b").is_loaded
        assert manager.find("b").pinned

    run(work)


def test_disk_is_not_looked_at_for_every_unknown_name() -> None:
    n_looks = 0

    def more() -> list[directory.ModelEntry]:
        nonlocal n_looks
        n_looks += 1
        return []

    manager = ModelManager(entries("a"), Loader(), more=more)

    async def work() -> None:
        asked = await asyncio.gather(*(manager.seek(f"no{i}") for i in range(20)), return_exceptions=True)
        assert all(isinstance(error, ModelNotFound) for error in asked)

    run(work)
    assert n_looks == 1


def test_given_name_wins_over_one_of_the_store(own: Path) -> None:
    write_file(own / "a.gguf", tiny_gguf(1))
    given = entries("a")
    manager = ModelManager(given, Loader(), more=shelf().entries)

    async def work() -> None:
        await manager.look()
        assert names(manager) == ["a"]
        assert manager.find("a").entry is given[0]

    run(work)
