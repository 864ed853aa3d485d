"""The screen of quantize."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class QuantizeScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "quantize"

    def compose_body(self) -> ComposeResult:
        yield Static("")
