"""How the frame looks: the bar of modes, settings, help, the welcome, the palette, in both of our themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import SIZES, ScriptedModels, until
from tui.app import LocalLLM
from tui.first_run import Offer
from tui.themes import OWN_THEMES

OFFERS = [
    Offer("smollm2", "SmolLM2 135M", "small, and here already", is_here=True),
    Offer("qwen3-4b", "Qwen3 4B", "better, 2.5 GiB to fetch", is_here=False),
]
MakeApp = Callable[[], LocalLLM]


@pytest.fixture(autouse=True)
def settings_file_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of the settings file is on the screen, and the home of a test has another one each time."""
    monkeypatch.setattr("tui.screens.settings.paths.config_file", lambda: Path("/home/me/.config/localllm/config.toml"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", [theme.name for theme in OWN_THEMES])
def test_settings(make_app: MakeApp, snap_compare: Any, theme: str, size: tuple[int, int]) -> None:
    async def choose(pilot: Pilot[Any]) -> None:
        pilot.app.theme = theme
        await pilot.press("f7", "down", "down", "down", "down", "down", "down")

    assert snap_compare(make_app(), run_before=choose, terminal_size=size)


def test_a_wrong_value(make_app: MakeApp, snap_compare: Any) -> None:
    async def mistype(pilot: Pilot[Any]) -> None:
        await pilot.press("f7", *"top", "underscore", "p", "enter", "ctrl+u", "7", "enter")
        await until(pilot, lambda: pilot.app.screen.query("#setting-wrong.-shown"))

    assert snap_compare(make_app(), run_before=mistype)


@pytest.mark.parametrize("size", SIZES)
def test_welcome(
    home: Path, models: ScriptedModels, snap_compare: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.welcome.demo_offer", lambda: OFFERS[0])
    monkeypatch.setattr("tui.screens.welcome.offers", lambda: OFFERS[1:])

    async def settle(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: len(pilot.app.screen._offers) == 2)  # type: ignore[attr-defined]
        # What lies behind is the chat's own business.
        await pilot.app.switch_mode("settings")
        await pilot.app.push_screen(type(pilot.app._screen_stacks["chat"][-1])())
        await until(pilot, lambda: len(pilot.app.screen._offers) == 2)  # type: ignore[attr-defined]

    assert snap_compare(LocalLLM(open_llm=models), run_before=settle, terminal_size=size)
