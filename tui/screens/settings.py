"""The screen of settings."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class SettingsScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "settings"

    def compose_body(self) -> ComposeResult:
        yield Static("")
