"""From the words on the command line to the models that are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import ModelNotFound, RequestError
from localllm.hardware.types import LoadOptions
from localllm.server.entries import parse_entries
from localllm.server.manager import ModelEntry, ModelManager
from tests.server.fakes import Loader
from tests.store.layouts import HubCache, Ollama, tiny_gguf
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(write_tiny_model(folder / f"{name}.gguf")) for name in ("small", "large", "odd name (1)")}


def parse(*refs: str, **more: list[str]) -> list[ModelEntry]:
    return parse_entries(refs, LoadOptions(), **more)


def find(entries: list[ModelEntry], name: str) -> str:
    return ModelManager(entries, Loader()).find(name).name


def test_path_is_served_under_the_name_of_its_file(files: dict[str, str]) -> None:
    (entry,) = parse(files["small"])
    assert entry.name == "small"
    assert entry.path == Path(files["small"])
    assert find([entry], "SMALL.GGUF") == "small"


def test_name_of_a_file_becomes_one_that_fits_a_url(files: dict[str, str]) -> None:
    (entry,) = parse(files["odd name (1)"])
    assert entry.name == "odd-name-1-"
    assert find([entry], "odd name (1)") == "odd-name-1-"


def test_name_of_the_users_own(files: dict[str, str]) -> None:
    (entry,) = parse(f"gpt-4={files['small']}")
    assert entry.name == "gpt-4"
    assert find([entry], "small") == "gpt-4"


def test_path_that_holds_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    (entry,) = parse(str(write_tiny_model(folder / "m.gguf")))
    assert entry.name == "m"


def test_aliases_and_pins_reach_the_model_whatever_their_case(files: dict[str, str]) -> None:
    small, large = parse(files["small"], files["large"], aliases=["gpt=SMALL"], pinned=["Large"])
    assert find([small, large], "GPT") == "small"
    assert (small.pinned, large.pinned) == (False, True)


@pytest.mark.parametrize(
    ("aliases", "pinned", "named"),
    [
        (["x=nobody"], [], "nobody"),
        (["x"], [], "--alias x"),
        ([], ["nobody"], "nobody"),
        (["bad name=small"], [], "bad name"),
        (["x=small", "X=large"], [], "X would stand for"),
        (["large=small"], [], "large would stand for"),
    ],
)
def test_alias_or_pin_that_makes_no_sense_is_refused(
    files: dict[str, str], aliases: list[str], pinned: list[str], named: str
) -> None:
    with pytest.raises(RequestError, match=named):
        parse(files["small"], files["large"], aliases=aliases, pinned=pinned)


def test_two_models_of_one_name_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="Two models"):
        parse(files["small"], f"SMALL={files['large']}")


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 201, "ä?"])
def test_bad_name_is_refused(files: dict[str, str], name: str) -> None:
    with pytest.raises(RequestError):
        parse(f"{name}={files['small']}")


def test_reference_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(ModelNotFound):
        parse("/nowhere/at-all.gguf")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "small/../large", "..", "C:\\x.gguf", "a" * 5000])
def test_clients_cannot_name_files(files: dict[str, str], name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        find(parse(files["small"]), name)
    assert len(str(caught.value)) < 400


def test_models_of_the_store_are_served_under_their_names(home: Path) -> None:
    cache, ollama = HubCache(home / "huggingface" / "hub"), Ollama(home / "ollama")
    cached = cache.add("org/repo", "x-Q4_K_M.gguf", tiny_gguf(1))
    ollama.add("llama3.2", "1b", tiny_gguf(2))
    ollama.add("m", "latest", tiny_gguf(3), namespace="me")
    first, second, third = parse("org/repo:Q4_K_M", "llama3.2:1b", "me/m:latest")
    assert (first.name, first.path) == ("x-Q4_K_M", cached)
    assert (second.name, second.path, second.aliases) == ("llama3.2:1b", ollama.blob(tiny_gguf(2)), ())
    assert (third.name, third.aliases) == ("me-m:latest", ())
