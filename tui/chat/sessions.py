"""The conversations that are open: each goes on streaming while another one is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tui.chat.events import SessionEvent
from tui.chat.session import ChatSession

if TYPE_CHECKING:
    from localllm.config import Settings
    from localllm.conversations import Conversation, ConversationStore
    from tui.engines import Engines

Listener = Callable[[ChatSession, SessionEvent], None]


class Sessions:
    """Makes a session for each conversation that is opened, and keeps it.

    Args:
        store: where conversations are kept.
        engines: where models come from.
        settings: what applies now where a conversation does not say.
        listener: gets what happens in each.
    """

    def __init__(
        self, store: ConversationStore, engines: Engines, settings: Callable[[], Settings], listener: Listener
    ) -> None:
        self._store = store
        self._engines = engines
        self._settings = settings
        self._listener = listener
        self._open: dict[int, ChatSession] = {}

    async def open(self, conversation: Conversation, ref: str | None) -> ChatSession:
        """Return the session of a conversation.

        Args:
            conversation: whose.
            ref: its model, where the conversation does not say.
        """
        session = self._open.get(conversation.id)
        if session is None:
            session = ChatSession(
                self._store,
                self._engines,
                self._settings,
                conversation,
                conversation.model or ref,
                lambda event: self._tell(conversation.id, event),
            )
            self._open[conversation.id] = session
            await session.load()
        return session

    @property
    def streaming_ids(self) -> frozenset[int]:
        """The conversations in which something is being answered."""
        return frozenset(id_ for id_, session in self._open.items() if session.phase != "idle")

    async def close(self, conversation_id: int) -> None:
        """End what is being answered there, and forget the session."""
        session = self._open.pop(conversation_id, None)
        if session is not None:
            await session.stop()

    async def close_all(self) -> None:
        """End everything, and tell nobody; what is being answered is kept as interrupted."""
        closing, self._open = self._open, {}
        for session in closing.values():
            await session.stop("interrupted")

    def _tell(self, conversation_id: int, event: SessionEvent) -> None:
        session = self._open.get(conversation_id)
        if session is not None:
            self._listener(session, event)
