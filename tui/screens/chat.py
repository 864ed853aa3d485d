"""The screen of chat."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from tui.screens.mode import ModeScreen


class ChatScreen(ModeScreen):
    """Nothing is here yet."""

    MODE = "chat"

    def compose_body(self) -> ComposeResult:
        yield Static("")
