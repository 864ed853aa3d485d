"""What tests of the chat's screen do over and over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.pilot import Pilot

from localllm.conversations import Conversation, ConversationStore, Node
from tests.tui.driving import until
from tui.app import LocalLLM
from tui.screens.chat import ChatScreen
from tui.widgets.composer import Composer
from tui.widgets.engine_notice import EngineNotice


class Chat:
    """The chat's screen, as its user sees it and as its store has it."""

    def __init__(self, app: LocalLLM, pilot: Pilot[Any]) -> None:
        self.app = app
        self.pilot = pilot

    @classmethod
    async def opened(cls, app: LocalLLM, pilot: Pilot[Any]) -> Chat:
        """Wait until one may write."""
        chat = cls(app, pilot)
        await until(pilot, lambda: chat.screen.is_open)
        return chat

    @property
    def screen(self) -> ChatScreen:
        screen = next(screen for screen in self.app.screen_stack if isinstance(screen, ChatScreen))
        assert isinstance(screen, ChatScreen)
        return screen

    @property
    def store(self) -> ConversationStore:
        store = self.app.services.conversations
        assert store is not None
        return store

    @property
    def composer(self) -> Composer:
        return self.screen.query_one(Composer)

    @property
    def notice(self) -> str:
        """What is said of the model."""
        return str(self.screen.query_one(EngineNotice).content)

    @property
    def shown(self) -> Conversation:
        """The conversation that is shown, as it is kept."""
        session = self.screen.session
        assert session is not None
        return self.store.conversation(session.conversation.id)

    @property
    def path(self) -> Sequence[Node]:
        return self.store.path(self.shown.id)

    @property
    def texts(self) -> list[str]:
        return [node.text for node in self.path]

    async def write(self, text: str) -> None:
        """Type, without sending."""
        self.composer.focus()
        await self.pilot.press(*("space" if char == " " else char for char in text))

    async def ask(self, text: str) -> None:
        """Type and send, and wait until nothing is being answered."""
        n_before = len(self.path)
        await self.write(text)
        await self.pilot.press("enter")
        await until(self.pilot, lambda: len(self.path) > n_before + 1)
        await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is being answered."""
        session = self.screen.session
        assert session is not None
        await until(self.pilot, lambda: not session.is_busy)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()
