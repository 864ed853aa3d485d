"""The screen of hardware."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class HardwareScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "hardware"

    def compose_body(self) -> ComposeResult:
        yield Static("")
