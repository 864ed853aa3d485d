"""The Hardware screen, by its keys, on machines that are not here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import EngineError
from localllm.runtime.backend import MemoryUse
from tests.tui.driving import ScriptedModels, screen_text, until
from tests.tui.machine.test_history import RUN
from tui.app import LocalLLM
from tui.machine.history import SpeedHistory
from tui.machine.memory import RAM
from tui.screens import hardware

GIB = 1 << 30
USE = MemoryUse(weights_bytes=2 * GIB, kv_bytes=GIB, compute_bytes=GIB // 2, ram_bytes=GIB, devices={"CUDA0": 3 * GIB})
GPU = {"name": "CUDA0", "description": "simulated", "memory_total_bytes": 8 * GIB, "memory_free_bytes": 4 * GIB}
FINDINGS: list[dict[str, Any]] = [
    {"devices": [GPU]},
    {"finding": {"name": "cpu", "is_ok": True, "text": "A CPU: AVX2", "advice": ""}},
    {"finding": {"name": "disk", "is_ok": False, "text": "1.0 GiB free", "advice": "Remove files."}},
    {"is_done": True},
]
RESULT = {"result": {name: value for name, value in vars(RUN).items() if name != "time"}}


class ScriptedChild:
    """Says what it is told to, and then, if it stays, nothing until it is ended."""

    def __init__(self, said: Sequence[dict[str, Any]], *, stays: bool = False, fails: bool = False) -> None:
        self._said, self._stays, self._fails = said, stays, fails
        self._ended = asyncio.Event()
        self.n_asked = 0

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        for one in self._said:
            yield one
        if self._stays:
            await self._ended.wait()
        if self._fails:
            raise EngineError("The process that measures ended (exit code 1).", hint="Try again.")

    def ask(self) -> None:
        self.n_asked += 1

    def end(self) -> None:
        self._ended.set()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[ScriptedChild]]:
    """The next processes of each module, the last one for ever."""
    found: dict[str, list[ScriptedChild]] = {"check": [], "speed": []}

    def start(arguments: Sequence[str]) -> ScriptedChild:
        kind = "check" if "check_child" in arguments[0] else "speed"
        return found[kind].pop(0) if found[kind] else ScriptedChild(FINDINGS if kind == "check" else [RESULT])

    monkeypatch.setattr(hardware, "start_child", start)
    monkeypatch.setattr(hardware, "read_ram", lambda: RAM(16 * GIB, 10 * GIB, GIB))
    return found


async def test_memory_shows_engines_and_gives_them_back(
    app: LocalLLM, models: ScriptedModels, children: dict[str, list[ScriptedChild]]
) -> None:
    models.say("x", memory_bytes=4 * GIB, memory=USE)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f6")
        await until(pilot, lambda: "CUDA0: simulated, 8.0 GiB" in screen_text(app))
        assert "No model is loaded in this app." in screen_text(app)
        await app.services.engines.open("small")
        await until(pilot, lambda: "█ models 3.0 GiB" in screen_text(app))
        text = screen_text(app)
        assert "▒ others 5.0 GiB" in text
        assert "▒ others 1.0 GiB" in text
        assert "▞ shared with a GPU 1.0 GiB" in text
        assert "small" in text and "ready" in text and "4.0 GiB" in text
        await pilot.press("x")
        await until(pilot, lambda: "No model is loaded in this app." in screen_text(app))
        assert models.backends["small"].closed


async def test_gauges_rest_while_nobody_looks(app: LocalLLM, children: dict[str, list[ScriptedChild]]) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f6")
        screen = app.screen
        assert isinstance(screen, hardware.HardwareScreen)
        await until(pilot, lambda: screen._ticks is not None and screen._ticks._active.is_set())
        await pilot.press("f7")
        await until(pilot, lambda: screen._ticks is not None and not screen._ticks._active.is_set())
        await pilot.press("f6")
        await until(pilot, lambda: screen._ticks is not None and screen._ticks._active.is_set())


async def test_the_check_up_says_what_to_do_and_looks_again(
    app: LocalLLM, children: dict[str, list[ScriptedChild]]
) -> None:
    children["check"] = [ScriptedChild(FINDINGS[:2], fails=True)]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f6", "v")
        await until(pilot, lambda: "Press r to look again." in screen_text(app))
        assert "✓ cpu" in screen_text(app)
        await pilot.press("r")
        await until(pilot, lambda: "→ Remove files." in screen_text(app))
        assert "! disk" in screen_text(app)
        assert "look again" not in screen_text(app)


async def test_a_benchmark_is_shown_and_kept(
    app: LocalLLM, children: dict[str, list[ScriptedChild]], own: Path
) -> None:
    own.mkdir(parents=True)
    (own / "smollm2-x.gguf").write_bytes(b"GGUF")
    children["speed"] = [ScriptedChild([{"share": 0.5}, {"round": 1, "of": 9}, RESULT])]
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f6")
        await until(pilot, lambda: "No measurement yet." in screen_text(app))
        await until(pilot, lambda: "Choose a model" not in screen_text(app))
        await pilot.press("b")
        await until(pilot, lambda: "smollm2 reads 400 and writes 40.0 tokens/s" in screen_text(app))
        await until(pilot, lambda: "A CPU, 2 threads" in screen_text(app))
        await until(pilot, lambda: "●" in screen_text(app))
    assert [run.generation_tok_s for run in SpeedHistory().read()] == [40.0]


async def test_a_benchmark_can_be_stopped_and_may_fail(
    app: LocalLLM, children: dict[str, list[ScriptedChild]], own: Path
) -> None:
    own.mkdir(parents=True)
    (own / "a.gguf").write_bytes(b"GGUF")
    error = {"error": {"message": "It does not fit.", "hint": "Try another."}}
    children["speed"] = [
        ScriptedChild([{"round": 1, "of": 9}], stays=True, fails=True),
        ScriptedChild([], fails=True),
        ScriptedChild([error]),
    ]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f6")
        await until(pilot, lambda: app.screen.query_one("#speed", hardware.SpeedView).chosen)
        await pilot.press("b")
        await until(pilot, lambda: "round 1 of at most 9" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: "The benchmark was stopped." in screen_text(app))
        await pilot.press("b")
        await until(pilot, lambda: "exit code 1" in screen_text(app))
        await pilot.press("b")
        await until(pilot, lambda: "It does not fit. Try another." in screen_text(app))
    assert SpeedHistory().read() == []


async def test_nothing_to_measure_says_where_to_get_it(
    app: LocalLLM, no_demo: None, children: dict[str, list[ScriptedChild]]
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f6")
        await pilot.pause()
        await pilot.press("b")
        await until(pilot, lambda: "fetch one with F3" in screen_text(app))
