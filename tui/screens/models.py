"""The screen of models."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class ModelsScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "models"

    def compose_body(self) -> ComposeResult:
        yield Static("")
