"""How tools, tokens and comparisons look: small and roomy, dark and light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.tui.driving import SIZES, screen_text, until
from tests.tui.test_compare import scripted_screen
from tests.tui.test_tokens import answer, choice
from tests.tui.test_tools import a_call, configure
from tui.app import LocalLLM
from tui.screens.approval import ApprovalScreen
from tui.screens.tokens import TokenScreen

Snap = Callable[..., bool]
LOOKS = [(SIZES[0], "localllm-dark"), (SIZES[1], "localllm-light")]


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.chat.default_ref", lambda settings, used: "scripted")
    monkeypatch.setattr("localllm.store.resolve", lambda ref: Path(f"/models/{ref}.gguf"))


def shown(app: LocalLLM, theme: str) -> LocalLLM:
    app.theme = theme
    return app


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_question_before_a_call(snap_compare: Snap, app: LocalLLM, size: tuple[int, int], theme: str) -> None:
    async def ask(pilot: Pilot[Any]) -> None:
        arguments = {"path": "/home/me/notes.txt", "recursive": True, "lines": list(range(40))}
        await pilot.app.push_screen(ApprovalScreen(a_call(arguments=arguments, is_destructive=True), 0.0))
        await pilot.press("n")

    assert snap_compare(shown(app, theme), terminal_size=size, run_before=ask)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_list_of_tools(snap_compare: Snap, app: LocalLLM, home: Path, size: tuple[int, int], theme: str) -> None:
    configure(home, gone={"command": "no-such-program-here"}, bad={})

    async def show(pilot: Pilot[Any]) -> None:
        await pilot.press("f8")
        await until(pilot, lambda: "[x] add" in screen_text(app) and "gone  failed" in screen_text(app))
        await pilot.press("down", "down")

    assert snap_compare(shown(app, theme), terminal_size=size, run_before=show)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_tokens(snap_compare: Snap, app: LocalLLM, size: tuple[int, int], theme: str) -> None:
    words = [choice(f" word{number}", 0.02 + 0.97 * (number * 7 % 11) / 11, other=0.01) for number in range(400)]

    async def show(pilot: Pilot[Any]) -> None:
        await pilot.app.push_screen(TokenScreen(answer(tuple(words))))
        await pilot.press("n", "n", "up")

    assert snap_compare(shown(app, theme), terminal_size=size, run_before=show)


@pytest.mark.parametrize(("size", "theme"), LOOKS)
def test_the_comparison(snap_compare: Snap, app: LocalLLM, size: tuple[int, int], theme: str) -> None:
    async def show(pilot: Pilot[Any]) -> None:
        screen = scripted_screen(app)
        await app.push_screen(screen)
        await pilot.press("w", "h", "y", "enter")
        await until(pilot, lambda: "same first choice" in screen_text(app))

    assert snap_compare(shown(app, theme), terminal_size=size, run_before=show)


def test_nothing_to_compare_yet(snap_compare: Snap, app: LocalLLM) -> None:
    async def show(pilot: Pilot[Any]) -> None:
        await pilot.press("f9")
        await pilot.pause()

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)


def test_no_tools_yet(snap_compare: Snap, app: LocalLLM) -> None:
    async def show(pilot: Pilot[Any]) -> None:
        app.services.tools._file = Path("/none/mcp.json")
        await pilot.press("f8")
        await until(pilot, lambda: "There are no tool servers yet" in screen_text(app))

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)
