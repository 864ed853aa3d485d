"""What every test of the terminal UI gets: an app without models, memories, animations or a blinking cursor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from localllm.config import load_settings
from tests.tui.driving import ScriptedModels
from tui.app import LocalLLM
from tui.first_run import mark_welcomed


@pytest.fixture(autouse=True)
def still_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with all colours, in which nothing moves by itself."""
    for name in ("NO_COLOR", "COLORFGBG", "TEXTUAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for kind in (Input, TextArea):
        monkeypatch.setattr(kind.cursor_blink, "_default", False)


@pytest.fixture
def models() -> ScriptedModels:
    """What loads the app's models."""
    return ScriptedModels()


@pytest.fixture
def make_app(home: Path, models: ScriptedModels) -> Callable[[], LocalLLM]:
    """Makes an app whose models are scripted, in a home of its own where the welcome was shown already."""

    mark_welcomed()

    def make() -> LocalLLM:
        app = LocalLLM(load_settings(), open_llm=models)
        app.animation_level = "none"
        return app

    return make


@pytest.fixture
def app(make_app: Callable[[], LocalLLM]) -> LocalLLM:
    return make_app()
