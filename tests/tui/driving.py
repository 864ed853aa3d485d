"""What tests of the terminal UI do over and over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from localllm.llm.model import LLM
from tests.scripted_backend import Script, ScriptedBackend
from tui.app import LocalLLM

SIZES = ((80, 24), (160, 50))
"""The smallest terminal that must do, and a roomy one."""


class ScriptedModels:
    """Loads models that say what they are told to: a `tui.engines.OpenLLM`.

    `loads` are the refs that were asked for. A ref in `errors` fails to load.
    """

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.backends: dict[str, ScriptedBackend] = {}
        self._scripts: tuple[Script | str, ...] = ("Hello!",)
        self._info: dict[str, object] = {}

    def say(self, *scripts: Script | str, **info: object) -> None:
        """Choose the answers of the models that are loaded from now on."""
        self._scripts, self._info = scripts, info

    def __call__(self, ref: str, *, on_progress: Callable[[float], None], **options: Any) -> LLM:
        self.loads.append(ref)
        on_progress(0.5)
        if ref in self.errors:
            raise self.errors[ref]
        backend = self.backends[ref] = ScriptedBackend(*self._scripts, **self._info)
        return LLM(backend)


async def until(pilot: Pilot[Any], condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"After {limit_s:g} s it is not so yet."
        await pilot.pause(0.01)
    await pilot.pause()


def screen_text(app: App[Any]) -> str:
    """Return what is on the screen, line by line, as a person sees it."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip)[:width].rstrip() for strip in lines[:height])


def screen_words(app: LocalLLM) -> str:
    """Return what is on the screen as one line, without frames, so that wrapped sentences are found."""
    return " ".join(screen_text(app).translate(dict.fromkeys(range(0x2500, 0x25A0), " ")).split())
