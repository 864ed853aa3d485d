"""The first start: from nothing to a chat in two keystrokes, and never the same words again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from localllm import paths
from tests.tui.driving import ScriptedModels, screen_text, screen_words, until
from tui import first_run
from tui.app import LocalLLM
from tui.first_run import MARK, Offer, is_first_run, offers
from tui.messages import ChatWith, FetchModel
from tui.screens.welcome import WelcomeScreen

DEMO = Offer("smollm2", "SmolLM2 135M", "small, and here already", is_here=True)
FETCHED = Offer("qwen3-4b", "Qwen3 4B", "better, 2.5 GiB to fetch", is_here=False)


@pytest.fixture
def new_app(home: Path, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LocalLLM]:
    """Makes an app for somebody who was never here."""

    def make(demo: Offer | None, *others: Offer) -> LocalLLM:
        monkeypatch.setattr("tui.screens.welcome.demo_offer", lambda: demo)
        monkeypatch.setattr("tui.screens.welcome.offers", lambda: list(others))
        return LocalLLM(open_llm=models)

    return make


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The messages to the app about models, as they come."""
    found: list[object] = []

    async def note(app: LocalLLM, message: object) -> None:
        found.append(message)

    for kind in ("chat_with", "fetch_model"):
        monkeypatch.setattr(LocalLLM, f"on_{kind}", note)
    return found


async def test_enter_begins_a_chat_with_the_demo_model(new_app: Callable[..., LocalLLM], posted: list[object]) -> None:
    app = new_app(DEMO, FETCHED)
    async with app.run_test(size=(80, 24)) as pilot:
        assert isinstance(app.screen, WelcomeScreen)
        assert "SmolLM2 135M" in screen_text(app)
        await pilot.press("enter")
        await until(pilot, lambda: posted)
        assert isinstance(posted[0], ChatWith) and posted[0].ref == "smollm2"
        assert not isinstance(app.screen, WelcomeScreen)


async def test_a_model_that_is_not_here_is_fetched(new_app: Callable[..., LocalLLM], posted: list[object]) -> None:
    app = new_app(None, FETCHED)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Qwen3 4B" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: posted)
        assert isinstance(posted[0], FetchModel) and posted[0].ref == "qwen3-4b"


async def test_fetching_shows_the_screen_of_models(new_app: Callable[..., LocalLLM]) -> None:
    app = new_app(DEMO)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("escape")
        app.post_message(FetchModel("no-such-model-of-the-catalog"))
        await until(pilot, lambda: app.current_mode == "models")


async def test_without_any_model_it_says_where_to_find_one(new_app: Callable[..., LocalLLM]) -> None:
    app = new_app(None)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "No model fits this machine. F3 shows what there is." in screen_words(app))
        await pilot.press("f3")
        await until(pilot, lambda: app.current_mode == "models" and not isinstance(app.screen, WelcomeScreen))


async def test_it_is_shown_once(new_app: Callable[..., LocalLLM]) -> None:
    app = new_app(DEMO)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: (paths.data_dir() / MARK).exists())
        await pilot.press("escape")
        assert not isinstance(app.screen, WelcomeScreen)
    again = new_app(DEMO)
    async with again.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not isinstance(again.screen, WelcomeScreen)


@pytest.mark.parametrize("there", ["config", "conversations"])
def test_who_has_settings_or_conversations_is_not_new(there: str) -> None:
    assert is_first_run()
    file = paths.config_file() if there == "config" else paths.data_dir() / first_run.CONVERSATIONS
    paths.ensure(file.parent)
    file.touch()
    assert not is_first_run()


def test_offers_are_models_of_the_catalog_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.hardware.memory.available_ram_bytes", lambda: 6 << 30)
    found = offers()
    assert found and all(not offer.is_here and "to fetch" in offer.note for offer in found)
    monkeypatch.setattr("localllm.hardware.memory.available_ram_bytes", lambda: 64 << 20)
    assert offers() == []
