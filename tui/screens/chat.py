"""The chat: conversations at the side, one of them in the middle, and below where one writes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from localllm.conversations import Conversation, ConversationStore, Hit, SavedPrompt
from localllm.errors import LocalLLMError
from tui.chat.events import Changed, Finished, Refused, SessionEvent
from tui.chat.options import next_thinking
from tui.chat.session import ChatSession
from tui.chat.sessions import Sessions
from tui.messages import EngineChanged, ModelsChanged
from tui.screens.chat_shelf import ChatShelf
from tui.screens.mode import ModeScreen
from tui.widgets.conversation_list import ConversationList, Wish
from tui.widgets.engine_notice import EngineNotice

N_LISTED = 500
"""Conversations in the sidebar; the search finds the others."""
_WIDE = 100
"""Columns from which on the sidebar is there by itself."""
_THINKING = {None: "as the model has it", True: "on", False: "off"}

if TYPE_CHECKING:
    from tui.screens.chat_settings import ChatChoices


class ChatScreen(ModeScreen):
    """Talk to a model. Everything is usable while the conversations are opened and the model loads."""

    MODE = "chat"
    DEFAULT_CSS = """
    ChatScreen {
        & #talk { width: 1fr; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new", "New", id="chat.new", tooltip="Begin another conversation"),
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="End the answer; what came is kept"),
        Binding("ctrl+r", "regenerate", "Again", id="chat.regenerate", tooltip="Answer again, or load the model again"),
        Binding("ctrl+l", "resume", "Go on", id="chat.resume", tooltip="Go on with an answer that was cut off"),
        Binding("ctrl+t", "thinking", "Thinking", id="chat.thinking", tooltip="As the model has it, on, off"),
        Binding("ctrl+f", "search", "Search", id="chat.search", priority=True, tooltip="Search all conversations"),
        Binding("ctrl+o", "model", "Model", id="chat.model", tooltip="Choose which model answers"),
        Binding(
            "ctrl+e", "settings", "Settings", id="chat.settings", priority=True,
            tooltip="System prompt, temperature and so on, of this chat",
        ),
        Binding("ctrl+b", "sidebar", "Chats", id="chat.sidebar", tooltip="Show or hide the conversations"),
        Binding("ctrl+pageup", "neighbour(-1)", "Previous chat", id="chat.previous", show=False, priority=True),
        Binding("ctrl+pagedown", "neighbour(1)", "Next chat", id="chat.next", show=False, priority=True),
        *(
            Binding(f"alt+{n}", f"nth({n - 1})", f"Chat {n}", id=f"chat.go_{n}", show=False, priority=True)
            for n in range(1, 10)
        ),
        Binding("alt+r", "wish('rename')", "Rename chat", id="chat.rename", show=False),
        Binding("alt+p", "wish('pin')", "Pin chat", id="chat.pin", show=False),
        Binding("alt+a", "wish('archive')", "Archive chat", id="chat.archive", show=False),
        Binding("alt+d", "wish('delete')", "Delete chat", id="chat.delete", show=False),
        Binding("alt+u", "wish('undo_delete')", "Bring back chat", id="chat.undo_delete", show=False),
        Binding("alt+x", "wish('export')", "Export chat", id="chat.export", show=False),
        Binding("alt+i", "wish('import')", "Import chats", id="chat.import", show=False),
        Binding("alt+l", "prompts", "Saved prompts", id="chat.prompts", show=False),
        Binding("alt+s", "save_prompt", "Save as prompt", id="chat.save_prompt", show=False),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._session: ChatSession | None = None
        self._sessions: Sessions | None = None
        self._store: ConversationStore | None = None
        self._shelf: ChatShelf | None = None
        self._listed: list[Conversation] = []
        self._unread: set[int] = set()
        self._ref: str | None = None
        """The model of conversations that do not say."""
        self._is_open = asyncio.Event()
        self._sidebar_wanted: bool | None = None
        """None: as wide as the terminal is."""

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            yield ConversationList()
            with Vertical(id="talk"):
                yield Transcript()
                yield EngineNotice()
                yield Composer()
                yield ChatFooter()

    # Opening.

    def on_mount(self) -> None:
        self._open()

    @work(group="open")
    async def _open(self) -> None:
        self._store = store = await self.localllm.open_conversations()
        if store.notice:
            self.notify(store.notice, severity="warning", timeout=30, markup=False)
        self._sessions = self.localllm.sessions(self._heard)
        self._shelf = ChatShelf(self, store)
        await self.refresh_list()
        used = [conversation.model for conversation in self._listed if conversation.model]
        self._ref = await asyncio.to_thread(default_ref, self.services.settings, used)
        await self._begin()
        self._is_open.set()

    async def _begin(self, model: str | None = None) -> None:
        """Show a conversation without messages: one that is there, or a new one."""
        assert self._store is not None
        store, system = self._store, self.services.settings.system
        empty = next(
            (one for one in self._listed if not one.n_messages and not one.title and not one.is_archived), None
        )
        found = empty or await asyncio.to_thread(lambda: store.create(system=system))
        if model is not None:
            found = await asyncio.to_thread(lambda: store.change(found.id, model=model))
        await self._show(found)

    async def show_conversation(self, conversation_id: int, node_id: int | None = None) -> None:
        """Show a conversation, at one of its messages if that is said."""
        assert self._store is not None
        conversation = await asyncio.to_thread(self._store.conversation, conversation_id)
        await self._show(conversation, node_id)

    async def leave_conversation(self, conversation_id: int) -> None:
        """End what is answered in a conversation that is about to go, and show another one in its place."""
        assert self._sessions is not None
        await self._sessions.close(conversation_id)
        self._unread.discard(conversation_id)
        self._listed = [one for one in self._listed if one.id != conversation_id]
        if self._session is not None and self._session.conversation.id == conversation_id:
            self._session = None
            await self._begin()

    async def change_conversation(self, conversation_id: int, **fields: Any) -> None:
        """Change what is kept of a conversation, whether it is shown or not."""
        assert self._store is not None
        if self._session is not None and self._session.conversation.id == conversation_id:
            await self._session.change(**fields)
        else:
            store = self._store
            await asyncio.to_thread(lambda: store.change(conversation_id, **fields))

    async def refresh_list(self) -> None:
        """Read the conversations again, and show them at the side."""
        assert self._store is not None and self._sessions is not None
        store = self._store
        self._listed = list(await asyncio.to_thread(lambda: store.conversations(limit=N_LISTED)))
        current_id = None if self._session is None else self._session.conversation.id
        self.query_one(ConversationList).show(
            self._listed, current_id, streaming=self._sessions.streaming_ids, unread=self._unread
        )

    def say(self, text: str) -> None:
        """Tell the user something that is not a problem."""
        self.notify(text, markup=False)

    def complain(self, error: LocalLLMError) -> None:
        """Tell the user of an error, and what to do."""
        self.notify("\n".join(filter(None, (error.message, error.hint))), severity="error", markup=False)

    async def chat_with(self, ref: str) -> None:
        """Begin a conversation with a model."""
        await self._is_open.wait()
        await self._begin(model=ref)
        await self.refresh_list()

    async def _show(self, conversation: Conversation, node_id: int | None = None) -> None:
        assert self._sessions is not None
        self._session = session = await self._sessions.open(conversation, self._ref)
        self._unread.discard(conversation.id)
        if node_id is not None and all(node.id != node_id for node in session.nodes):
            await session.show(node_id)
        self._show_path(session)
        composer = self.query_one(Composer)
        composer.text = (await asyncio.to_thread(self._store.conversation, conversation.id)).draft
        composer.focus()
        if node_id is not None:
            self.query_one(Transcript).go_to(node_id)
        self._show_engine()
        await self.refresh_list()
