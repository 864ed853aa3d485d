"""The app: its modes, what they share, and the messages between them."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message

from localllm.config import Settings, load_settings
from tui import messages
from tui.engines import Engines, OpenLLM
from tui.modes import ALL_MODES
from tui.services import Services
from tui.themes import AUTO, OWN_THEMES, chosen_theme


class LocalLLM(App[None]):
    """localllm in a terminal.

    Args:
        settings: None: from the environment and the file.
        open_llm: None: `localllm.load`. Tests script one.
    """

    TITLE = "localllm"
    CSS_PATH = "app.tcss"
    MODES = {mode.name: mode.screen for mode in ALL_MODES}  # noqa: RUF012
    DEFAULT_MODE = "chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(mode.key, f"switch_mode('{mode.name}')", mode.title, id=f"app.{mode.name}", show=False)
            for mode in ALL_MODES
        ),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", show=False, priority=True),
    ]

    def __init__(self, settings: Settings | None = None, open_llm: OpenLLM | None = None) -> None:
        super().__init__()
        settings = settings or load_settings()
        self.services = Services(settings, Engines(self._engine_changed, open_llm))
        for theme in OWN_THEMES:
            self.register_theme(theme)
        self.theme = chosen_theme(AUTO, self.console.color_system, os.environ)

    async def on_unmount(self) -> None:
        await self.services.engines.close_all()

    def _engine_changed(self, ref: str) -> None:
        self.broadcast(messages.EngineChanged(ref))

    def broadcast(self, message: Message) -> None:
        """Tell every screen that was shown so far."""
        for stack in self._screen_stacks.values():
            for screen in stack:
                screen.post_message(message)
