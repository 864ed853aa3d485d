"""The screen of serve."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class ServeScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "serve"

    def compose_body(self) -> ComposeResult:
        yield Static("")
