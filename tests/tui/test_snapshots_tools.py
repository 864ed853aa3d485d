"""How tools, tokens and comparisons look: small and roomy, dark and light."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ScreenStackError
from textual.pilot import Pilot

from localllm.config import load_settings
from tests.tui.driving import SIZES, ScriptedModels, screen_text, until
from tests.tui.test_compare import scripted_screen
from tests.tui.test_tokens import answer, choice
from tests.tui.test_tools import a_call, configure
from tui.engines import Engines
from tui.messages import ToolsChanged
from tui.screens.approval import ApprovalScreen, ask
from tui.screens.tokens import TokenScreen
from tui.screens.tools import ToolsScreen
from tui.services import Services
from tui.themes import OWN_THEMES
from tui.tool_belt import ToolBelt

Snap = Callable[..., bool]
LOOKS = [(SIZES[0], "localllm-dark"), (SIZES[1], "localllm-light")]


class BareApp(App[None]):
    """Nothing but what is pushed onto it."""

    def __init__(self, theme: str = "localllm-dark") -> None:
        super().__init__()
        self.animation_level = "none"
        for known in OWN_THEMES:
            self.register_theme(known)
        self.theme = theme
        belt = ToolBelt(self.tools_changed, lambda call: ask(self, call))
        engines = Engines(lambda ref: None, ScriptedModels(), has_room=lambda ref: True)
        self.services = Services(load_settings(), engines, belt)

    def tools_changed(self) -> None:
        # At the end the servers are stopped when no screen is left.
        with suppress(ScreenStackError):
            self.screen.post_message(ToolsChanged())

    async def on_unmount(self) -> None:
        await self.services.tools.close()
        await self.services.engines.close_all()


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.store.resolve", lambda ref: Path(f"/models/{ref}.gguf"))


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_question_before_a_call(snap_compare: Snap, size: tuple[int, int], theme: str) -> None:
    app = BareApp(theme)

    async def show(pilot: Pilot[Any]) -> None:
        arguments = {"path": "/home/me/notes.txt", "recursive": True, "lines": list(range(40))}
        await pilot.app.push_screen(ApprovalScreen(a_call(arguments=arguments, is_destructive=True), 0.0))
        await pilot.press("n")

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_list_of_tools(snap_compare: Snap, home: Path, size: tuple[int, int], theme: str) -> None:
    configure(home, gone={"command": "no-such-program-here"}, bad={})
    app = BareApp(theme)

    async def show(pilot: Pilot[Any]) -> None:
        await app.push_screen(ToolsScreen(app.services.tools))
        await until(pilot, lambda: "[x] add" in screen_text(app) and "gone  failed" in screen_text(app))
        await pilot.press("down", "down")

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_tokens(snap_compare: Snap, size: tuple[int, int], theme: str) -> None:
    words = [choice(f" word{number}", 0.02 + 0.97 * (number * 7 % 11) / 11, other=0.01) for number in range(400)]
    app = BareApp(theme)

    async def show(pilot: Pilot[Any]) -> None:
        await pilot.app.push_screen(TokenScreen(answer(tuple(words))))
        await pilot.press("n", "n", "up")

    assert snap_compare(app, terminal_size=size, run_before=show)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_comparison(snap_compare: Snap, size: tuple[int, int], theme: str) -> None:
    app = BareApp(theme)

    async def show(pilot: Pilot[Any]) -> None:
        screen = scripted_screen(app)
        await app.push_screen(screen)
        await pilot.press("w", "h", "y", "enter")
        await until(pilot, lambda: "same first choice" in screen_text(app))

    assert snap_compare(app, terminal_size=size, run_before=show)


def test_nothing_to_compare_yet(snap_compare: Snap) -> None:
    app = BareApp()

    async def show(pilot: Pilot[Any]) -> None:
        await app.push_screen(scripted_screen(app, "", ""))
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)


def test_no_tools_yet(snap_compare: Snap) -> None:
    app = BareApp()

    async def show(pilot: Pilot[Any]) -> None:
        app.services.tools._file = Path("/none/mcp.json")
        await app.push_screen(ToolsScreen(app.services.tools))
        await until(pilot, lambda: "There are no tool servers yet" in screen_text(app))

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)
