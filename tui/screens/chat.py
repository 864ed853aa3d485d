"""The chat: conversations at the side, one of them in the middle, and below where one writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import TextArea

from localllm.errors import LocalLLMError
from tui.chat.choices import default_ref
from tui.chat.events import (
    Added,
    Began,
    BranchShown,
    Changed,
    Cut,
    Finished,
    Measured,
    PhaseChanged,
    Refused,
    SessionEvent,
    Streamed,
)
from tui.chat.meter import Figures
from tui.chat.options import next_thinking
from tui.chat.session import ChatSession
from tui.chat.sessions import Sessions
from tui.messages import EngineChanged, ModelsChanged
from tui.screens.mode import ModeScreen
from tui.widgets.chat_footer import ChatFooter
from tui.widgets.composer import Composer
from tui.widgets.conversation_list import ConversationList, Wish
from tui.widgets.engine_notice import EngineNotice
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localllm.conversations import Conversation, ConversationStore
    from tui.screens.chat_dialogs import ChatDialogs
    from tui.screens.chat_shelf import ChatShelf

N_LISTED = 500
"""Conversations in the sidebar; the search finds the others."""
_WIDE = 100
"""Columns from which on the sidebar is there by itself."""
_NOTICE_S = 30
_THINKING = {None: "as the model has it", True: "on", False: "off"}

EMPTY = "Ask something; Enter sends it.\nCtrl+O chooses another model, Ctrl+F searches, F1 shows all keys."


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
        Binding("ctrl+l", "resume", "Go on", id="chat.resume", show=False, tooltip="Go on with what was cut off"),
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

    @property
    def session(self) -> ChatSession | None:
        """The conversation that is shown; None until one is."""
        return self._session

    @property
    def is_open(self) -> bool:
        """Whether the conversations are there."""
        return self._is_open.is_set()

    # Opening.

    def on_mount(self) -> None:
        self._open()

    @work(group="open")
    async def _open(self) -> None:
        from localllm.conversations import ConversationStore
        from tui.screens.chat_shelf import ChatShelf

        store = await asyncio.to_thread(ConversationStore.open)
        self.services.conversations = self._store = store
        if store.notice:
            self._warn(store.notice)
        store.on_notice = lambda notice: self.app.call_later(self._warn, notice)
        self._sessions = Sessions(store, self.services.engines, self.services.settings, self._heard)
        self.services.sessions = self._sessions
        self._shelf = ChatShelf(self, store)
        await self.refresh_list()
        used = [conversation.model for conversation in self._listed if conversation.model]
        self._ref = await asyncio.to_thread(default_ref, self.services.settings, used)
        await self._begin()
        self._is_open.set()

    def _warn(self, notice: str) -> None:
        self.notify(notice, severity="warning", timeout=_NOTICE_S, markup=False)

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

    def follow_model(self, ref: str) -> None:
        """Answer with this model also in conversations to come, and load it."""
        self._ref = ref
        self._show_engine()
        self._load(ref)

    def write(self, text: str) -> None:
        """Put text where one writes."""
        composer = self.query_one(Composer)
        composer.insert(text)
        composer.focus()

    def say(self, text: str) -> None:
        """Tell the user something that is not a problem."""
        self.notify(text, markup=False)

    def complain(self, error: LocalLLMError) -> None:
        """Tell the user of an error, and what to do."""
        self.notify("\n".join(filter(None, (error.message, error.hint))), severity="error", markup=False)

    @work(exclusive=True, group="show")
    async def chat_with(self, ref: str) -> None:
        """Begin a conversation with a model."""
        await self._is_open.wait()
        await self._begin(model=ref)
        await self.refresh_list()

    async def _show(self, conversation: Conversation, node_id: int | None = None) -> None:
        assert self._sessions is not None and self._store is not None
        session = await self._sessions.open(conversation, self._ref)
        if session.ref is None:
            session.ref = self._ref
        if node_id is not None and not session.is_busy and all(node.id != node_id for node in session.nodes):
            await session.show(node_id)
        draft = (await asyncio.to_thread(self._store.conversation, conversation.id)).draft
        self._session = None
        composer = self.query_one(Composer)
        composer.text = draft
        self._session = session
        self._unread.discard(conversation.id)
        transcript = self.query_one(Transcript)
        transcript.show(session.path, empty=EMPTY)
        if any(node.id == node_id for node in session.nodes):
            transcript.choose(node_id)
        composer.focus()
        self._show_engine()
        await self.refresh_list()

    # What the conversation does.

    def _heard(self, session: ChatSession, event: SessionEvent) -> None:
        if session is self._session:
            self._show_event(event)
        elif isinstance(event, Finished):
            self._unread.add(session.conversation.id)
        if isinstance(event, Changed | PhaseChanged | Added):
            self._refresh()

    def _show_event(self, event: SessionEvent) -> None:
        transcript = self.query_one(Transcript)
        match event:
            case Streamed():
                if event.reasoning:
                    transcript.stream_reasoning(event.node_id, event.reasoning)
                if event.text:
                    transcript.stream_text(event.node_id, event.text)
            case Measured():
                self._show_footer(event.figures)
            case Cut():
                transcript.remove_after(event.after_id)
            case Added():
                transcript.begin(event.node)
            case Began():
                ids = [node.id for node in transcript.nodes]
                if event.node.id in ids:
                    place = ids.index(event.node.id)
                    transcript.remove_after(ids[place - 1] if place else None)
                transcript.begin(event.node)
            case Finished():
                transcript.finish(event.node)
            case BranchShown():
                transcript.show(event.nodes)
            case PhaseChanged():
                self._show_engine()
            case Refused():
                self._give_back(event.text)
                self.complain(event.error)

    def on_engine_changed(self, message: EngineChanged) -> None:
        if self._session is not None and message.ref == self._session.ref:
            self._show_engine()

    @on(ModelsChanged)
    @work(group="models")
    async def _look_for_models(self) -> None:
        if self._ref is None and self._store is not None:
            self._ref = await asyncio.to_thread(default_ref, self.services.settings, [])
            if self._session is not None and self._session.ref is None:
                self._session.ref = self._ref
            self._show_engine()

    def _show_footer(self, figures: Figures) -> None:
        session = self._session
        if session is not None:
            state = None if session.ref is None else self.services.engines.state(session.ref)
            self.query_one(ChatFooter).show(session.ref, figures, session.phase, state)

    def _show_engine(self) -> None:
        session = self._session
        if session is None:
            return
        state = None if session.ref is None else self.services.engines.state(session.ref)
        self.query_one(EngineNotice).show(session.ref, state)
        self._show_footer(last_figures(session))

    @work(exclusive=True, group="list")
    async def _refresh(self) -> None:
        await self.refresh_list()

    # What one writes.

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self._send(event.text)

    @work(group="send")
    async def _send(self, text: str) -> None:
        await self._is_open.wait()
        session = self._session
        assert session is not None and self._store is not None
        try:
            await session.send(text)
        except LocalLLMError as error:
            self._give_back(text)
            self.complain(error)
        else:
            if session is self._session and not self.query_one(Composer).text:
                self._store.save_draft(session.conversation.id, "")

    @on(TextArea.Changed)
    def _typed(self, event: TextArea.Changed) -> None:
        session = self._session
        if session is None or self._store is None:
            return
        text = self.query_one(Composer).text
        # What was sent is a draft until it is kept as a question.
        if text:
            self._store.save_draft(session.conversation.id, text)
            self._warm_up(session)

    def _warm_up(self, session: ChatSession) -> None:
        """Load the model while its first question is being written."""
        engines = self.services.engines
        if session.ref is not None and engines.state(session.ref) is None:
            self._load(session.ref)

    @work(group="load")
    async def _load(self, ref: str) -> None:
        # What went wrong is the engine's state, which is shown.
        with suppress(LocalLLMError):
            await self.services.engines.open(ref)

    def _give_back(self, text: str) -> None:
        composer = self.query_one(Composer)
        composer.text = f"{text}\n{composer.text}" if composer.text else text
        composer.focus()

    # What one does with messages.

    @on(Transcript.RegenerateRequested)
    def _regenerate(self, event: Transcript.RegenerateRequested) -> None:
        self._do(lambda session: session.regenerate(event.node.id))

    @on(Transcript.ContinueRequested)
    def _continue(self, event: Transcript.ContinueRequested) -> None:
        self._do(lambda session: session.resume(event.node.id))

    @on(Transcript.SiblingRequested)
    def _switch(self, event: Transcript.SiblingRequested) -> None:
        self._do(lambda session: session.switch(event.node.id, event.by))

    @on(Transcript.EditRequested)
    def _edit(self, event: Transcript.EditRequested) -> None:
        self._ask(lambda dialogs, session: dialogs.edit(session, event.node))

    @work(group="do")
    async def _do(self, what: Callable[[ChatSession], Coroutine[Any, Any, None]]) -> None:
        await self._is_open.wait()
        if self._session is not None:
            await self._guarded(what(self._session))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except LocalLLMError as error:
            self.complain(error)

    # Keys.

    @work(exclusive=True, group="show")
    async def action_new(self) -> None:
        """Begin another conversation."""
        await self._is_open.wait()
        await self.refresh_list()
        await self._begin()

    def action_stop(self) -> None:
        """End the answer; without one, write."""
        if self._session is not None and self._session.is_busy:
            self._do(lambda session: session.stop())
        else:
            self.query_one(Composer).focus()

    def action_regenerate(self) -> None:
        """Answer the last question again; without one, load the model again."""
        if self._session is not None and not self._session.nodes and self._session.ref is not None:
            self._load(self._session.ref)
        else:
            self._do(lambda session: session.regenerate())

    def action_resume(self) -> None:
        """Go on with the last answer."""
        self._do(lambda session: session.resume())

    def action_thinking(self) -> None:
        """Think as the model has it, always, or never."""

        async def change(session: ChatSession) -> None:
            options = next_thinking(session.conversation.options)
            await session.change(options=options)
            self.say(f"Thinking: {_THINKING[options.get('thinking')]}")

        self._do(change)

    def action_search(self) -> None:
        """Search all conversations."""
        self._ask(lambda dialogs, session: dialogs.search())

    def action_model(self) -> None:
        """Choose which model answers in this conversation."""
        self._ask(lambda dialogs, session: dialogs.model(session))

    def action_settings(self) -> None:
        """Change what applies to this conversation alone."""
        self._ask(lambda dialogs, session: dialogs.settings(session))

    def action_prompts(self) -> None:
        """Insert a saved prompt."""
        self._ask(lambda dialogs, session: dialogs.prompts())

    def action_save_prompt(self) -> None:
        """Save what is written as a prompt."""
        self._ask(lambda dialogs, session: dialogs.save_prompt(self.query_one(Composer).text))

    @work(group="dialog")
    async def _ask(self, what: Callable[[ChatDialogs, ChatSession], Coroutine[Any, Any, None]]) -> None:
        from tui.screens.chat_dialogs import ChatDialogs

        await self._is_open.wait()
        assert self._store is not None
        if self._session is not None:
            await self._guarded(what(ChatDialogs(self, self._store), self._session))

    def action_sidebar(self) -> None:
        """Show the conversations and go there, or hide them."""
        sidebar = self.query_one(ConversationList)
        self._sidebar_wanted = not sidebar.display
        sidebar.display = self._sidebar_wanted
        (sidebar if sidebar.display else self.query_one(Composer)).focus()

    def action_neighbour(self, step: int) -> None:
        """Show the next or the previous conversation of the list."""
        ids = self.query_one(ConversationList).ids
        here = None if self._session is None else self._session.conversation.id
        place = ids.index(here) + step if here in ids else 0
        if 0 <= place < len(ids):
            self._go(ids[place])

    def action_nth(self, place: int) -> None:
        """Show a conversation by its place in the list."""
        ids = self.query_one(ConversationList).ids
        if place < len(ids):
            self._go(ids[place])

    @on(ConversationList.Chosen)
    def _chosen(self, event: ConversationList.Chosen) -> None:
        self._go(event.conversation_id)

    @work(exclusive=True, group="show")
    async def _go(self, conversation_id: int) -> None:
        await self.show_conversation(conversation_id)

    @on(ConversationList.Wished)
    def _wished(self, event: ConversationList.Wished) -> None:
        self._wish(event.wish, event.conversation_id)

    def action_wish(self, wish: Wish) -> None:
        """Do something with the conversation that is shown, or the one that the sidebar's highlight is on."""
        sidebar = self.query_one(ConversationList)
        shown_id = None if self._session is None else self._session.conversation.id
        self._wish(wish, sidebar.highlighted_id if sidebar.has_focus else shown_id)

    @work(group="dialog")
    async def _wish(self, wish: Wish, conversation_id: int | None) -> None:
        await self._is_open.wait()
        assert self._shelf is not None
        await self._guarded(self._shelf.do(wish, conversation_id))

    def on_resize(self, event: events.Resize) -> None:
        if self._sidebar_wanted is None:
            self.query_one(ConversationList).display = event.size.width >= _WIDE


def last_figures(session: ChatSession) -> Figures:
    """Return the figures of the last answer."""
    answers = [node for node in session.nodes if node.role == "assistant" and node.facts]
    return Figures.of_facts(answers[-1].facts) if answers else Figures()
