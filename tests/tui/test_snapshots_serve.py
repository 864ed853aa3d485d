"""Pictures of the Serve screen and the Hardware screen, with figures that nobody measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from localllm.errors import ServerError
from tests.tui.driving import SIZES, ScriptedModels, screen_text, until
from tests.tui.machine.test_history import RUN
from tests.tui.test_hardware import GIB, USE, ScriptedChild, children
from tui.app import LocalLLM
from tui.machine.history import SpeedHistory
from tui.serving.logs import LogLine, LogTail
from tui.serving.metrics import Counters, History
from tui.serving.server import ServerView

__all__ = ["children"]

Compare = Callable[..., bool]
URL = "http://127.0.0.1:8080"
_MODEL: dict[str, Any] = {
    "id": "qwen2.5-coder-1.5b",
    "state": "loaded",
    "pinned": True,
    "load_progress": None,
    "memory_bytes": 2 * GIB,
    "context_length": 8192,
    "slots": 4,
    "running": 2,
    "waiting": 1,
    "kv_cells": 8192,
    "kv_cells_used": 2048,
    "idle_s": None,
}
_OTHER = {**_MODEL, "id": "smollm2", "state": "loading", "load_progress": 0.4, "pinned": False, "slots": None}


@pytest.fixture(autouse=True)
def every_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.widgets.serve_form.check_port", lambda host, port: None)


def history() -> History:
    made = History()
    for second in range(240):
        made.add(
            Counters(
                float(second),
                n_decoded=20.0 * second + second * second / 12,
                ttft_s=0.2 * second + 0.02 * (second % 5),
                n_ttft=second // 10,
                between_s=0.02 * second,
                n_between=second // 10,
            )
        )
    return made


def view_of(phase: Any) -> ServerView:
    status = {"models": [_MODEL, _OTHER], "requests": {"active": 3}, "uptime_s": 4000.0}
    return ServerView(phase, URL, is_own=True, can_stop=True, status=status, history=history())


async def show(pilot: Pilot[None], view: ServerView, text: str) -> None:
    app = pilot.app
    assert isinstance(app, LocalLLM)
    await pilot.press("f5")
    app.services.server.view = view
    app.services.server.changed()
    await until(pilot, lambda: text in screen_text(app))


@pytest.mark.parametrize("size", SIZES)
def test_form(app: LocalLLM, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def form(pilot: Pilot[None]) -> None:
        await pilot.press("f5")
        await until(pilot, lambda: "[ ] smollm2" in screen_text(app))

    assert snap_compare(app, terminal_size=size, run_before=form)


def test_form_without_models(app: LocalLLM, no_demo: None, snap_compare: Compare) -> None:
    async def form(pilot: Pilot[None]) -> None:
        await pilot.press("f5")
        await until(pilot, lambda: "fetch one with F3" in screen_text(app))

    assert snap_compare(app, terminal_size=SIZES[0], run_before=form)


@pytest.mark.parametrize("size", SIZES)
def test_running(app: LocalLLM, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def running(pilot: Pilot[None]) -> None:
        await show(pilot, view_of("running"), "● running")

    assert snap_compare(app, terminal_size=size, run_before=running)


def test_connect(app: LocalLLM, snap_compare: Compare) -> None:
    async def connect(pilot: Pilot[None]) -> None:
        await show(pilot, view_of("running"), "● running")
        await pilot.press("s", "s", "s")

    assert snap_compare(app, terminal_size=SIZES[0], run_before=connect)


def test_ended(app: LocalLLM, snap_compare: Compare, tmp_path: Any) -> None:
    async def ended(pilot: Pilot[None]) -> None:
        await show(pilot, view_of("running"), "● running")
        view = view_of("ended")
        view.status, view.error = None, ServerError("The server ended (exit code 1).")
        tail = app.services.server.log = LogTail(tmp_path / "none.log")
        tail.lines.append(LogLine("12:00:00", "info", "serving"))
        tail.lines.append(LogLine("12:00:09", "error", "the worker of smollm2 is gone"))
        await show(pilot, view, "✗ ended")
        await until(pilot, lambda: "is gone" in screen_text(app))

    assert snap_compare(app, terminal_size=SIZES[0], run_before=ended)


@pytest.mark.parametrize("size", SIZES)
def test_hardware(
    app: LocalLLM,
    models: ScriptedModels,
    children: dict[str, list[ScriptedChild]],
    snap_compare: Compare,
    size: tuple[int, int],
) -> None:
    models.say("x", memory_bytes=4 * GIB, memory=USE)
    for speed in (40.0, 42.0, 41.0):
        SpeedHistory().add(RUN.of({**vars(RUN), "generation_tok_s": speed}))

    async def hardware(pilot: Pilot[None]) -> None:
        await app.services.engines.open("small")
        await pilot.press("f6")
        await until(pilot, lambda: "█ models 3.0 GiB" in screen_text(app))

    assert snap_compare(app, terminal_size=size, run_before=hardware)


@pytest.mark.parametrize("n_views", [1, 2], ids=["check", "speed"])
def test_hardware_parts(
    app: LocalLLM, children: dict[str, list[ScriptedChild]], snap_compare: Compare, n_views: int
) -> None:
    SpeedHistory().add(RUN)

    async def part(pilot: Pilot[None]) -> None:
        await pilot.press("f6", *["v"] * n_views)
        await until(pilot, lambda: ("Remove files" if n_views == 1 else "Q4_1") in screen_text(app))
        await until(pilot, lambda: n_views == 1 or "Choose a model" not in screen_text(app))

    assert snap_compare(app, terminal_size=SIZES[0], run_before=part)
