"""The app: its modes, what they share, and the messages between them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message

from localllm.config import Settings, load_settings
from tui import messages
from tui.engines import Engines, OpenLLM
from tui.modes import ALL_MODES
from tui.services import Services
from tui.themes import AUTO, OWN_THEMES, chosen_theme
from tui.tool_belt import ToolBelt

if TYPE_CHECKING:
    from localllm.errors import LocalLLMError
    from localllm.tools import PendingCall, Verdict


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
        Binding("f8", "show_tools", "Tools", id="app.tools", show=False, tooltip="What models may call"),
        Binding("f9", "compare", "Compare", id="app.compare", show=False, tooltip="One question, two models"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit", show=False, priority=True),
    ]

    def __init__(self, settings: Settings | None = None, open_llm: OpenLLM | None = None) -> None:
        super().__init__()
        settings = settings or load_settings()
        tools = ToolBelt(lambda: self.broadcast(messages.ToolsChanged()), self._ask_for_call, failed=self._no_tools)
        self.services = Services(settings, Engines(self._engine_changed, open_llm, settings), tools)
        for theme in OWN_THEMES:
            self.register_theme(theme)
        self.theme = chosen_theme(AUTO, self.console.color_system, os.environ)

    async def on_unmount(self) -> None:
        if self.services.sessions is not None:
            await self.services.sessions.close_all()
        await self.services.tools.close()
        await self.services.engines.close_all()
        if self.services.conversations is not None:
            await asyncio.to_thread(self.services.conversations.close)

    async def on_chat_with(self, message: messages.ChatWith) -> None:
        """Show the chat, with a new conversation with this model."""
        from tui.screens.chat import ChatScreen

        await self.switch_mode("chat")
        if isinstance(self.screen, ChatScreen):
            self.screen.chat_with(message.ref)

    def _engine_changed(self, ref: str) -> None:
        self.broadcast(messages.EngineChanged(ref))

    async def _ask_for_call(self, call: PendingCall) -> Verdict:
        from tui.screens.approval import ask

        return await ask(self, call)

    def _no_tools(self, error: LocalLLMError) -> None:
        self.notify(f"{error.message} {error.hint or ''}".strip(), severity="warning", markup=False)

    def action_show_tools(self) -> None:
        """Show the tool servers and what the present chat may call."""
        from tui.screens.tools import ToolsScreen

        self.push_screen(ToolsScreen(self.services.tools))

    def action_compare(self) -> None:
        """Ask two models the same; the first is the one that was used last."""
        ready = [state.ref for state in self.services.engines.states if state.phase == "ready"]
        self.on_compare_models(messages.CompareModels(ready[-1] if ready else "", ""))

    def on_compare_models(self, event: messages.CompareModels) -> None:
        from tui.screens.compare import CompareScreen

        self.push_screen(CompareScreen(self.services, event.ref_a, event.ref_b))

    def broadcast(self, message: Message) -> None:
        """Tell every screen that was shown so far."""
        for stack in self._screen_stacks.values():
            for screen in stack:
                screen.post_message(message)
