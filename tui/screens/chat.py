"""The chat: conversations at the side, one of them in the middle, and below where one writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import TextArea

from localllm.errors import LocalLLMError
from tui.chat.choices import default_ref
from tui.chat.commands import COMMANDS, Command, command_of
from tui.chat.events import Added, Changed, Finished, PhaseChanged, SessionEvent
from tui.chat.options import next_thinking
from tui.chat.session import ChatSession
from tui.chat.sessions import Sessions
from tui.messages import EngineChanged, ModelsChanged
from tui.screens.chat_keys import CHAT_KEYS
from tui.screens.mode import ModeScreen
from tui.widgets.composer import Composer
from tui.widgets.conversation_list import ConversationList, Wish
from tui.widgets.suggestion_list import Suggestion
from tui.widgets.talk import Talk
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


class ChatScreen(ModeScreen):
    """Talk to a model. Everything is usable while the conversations are opened and the model loads."""

    MODE = "chat"
    AUTO_FOCUS = "PromptInput"
    DEFAULT_CSS = """
    ChatScreen {
        & #talk { width: 1fr; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = CHAT_KEYS

    def __init__(self) -> None:
        super().__init__()
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
            yield Talk(self.services.engines)

    @property
    def talk(self) -> Talk:
        return self.query_one(Talk)

    @property
    def session(self) -> ChatSession | None:
        """The conversation that is shown; None until one is."""
        return self.talk.session

    @property
    def is_open(self) -> bool:
        """Whether the conversations are there."""
        return self._is_open.is_set()

    # Opening.

    def on_mount(self) -> None:
        # The screen is seen first; what is imported for the conversations would keep it waiting.
        self.call_after_refresh(self._open)

    @work(group="open")
    async def _open(self) -> None:
        from localllm.conversations import ConversationStore
        from tui.screens.chat_shelf import ChatShelf

        store = await asyncio.to_thread(ConversationStore.open)
        self.services.conversations = self._store = store
        if store.notice:
            self._warn(store.notice)
        store.on_notice = self._heard_of_notice
        self._sessions = Sessions(store, self.services.engines, lambda: self.services.settings, self._heard)
        self.services.sessions = self._sessions
        self._shelf = ChatShelf(self, store)
        await self.refresh_list()
        used = [conversation.model for conversation in self._listed if conversation.model]
        self._ref = await asyncio.to_thread(default_ref, self.services.settings, used)
        await self._begin()
        await self.offer_commands()
        self._is_open.set()

    def _heard_of_notice(self, notice: str) -> None:
        # Any thread may say it.
        self.app.call_later(self._warn, notice)

    def _warn(self, notice: str) -> None:
        self.notify(notice, severity="warning", timeout=_NOTICE_S, markup=False)

    async def _begin(self, model: str | None = None) -> None:
        """Show a conversation without messages: one that is there, or a new one."""
        assert self._store is not None
        store, system = self._store, self.services.settings.system
        empty = (one for one in self._listed if not (one.n_messages or one.title or one.is_archived))
        found = next(empty, None)
        if found is None:
            found = await asyncio.to_thread(lambda: store.create(system=system))
        await self._show(found)
        if model is not None and self.session is not None:
            await self.session.use(model)
            self.follow_model(model)

    async def show_conversation(self, conversation_id: int, node_id: int | None = None) -> None:
        """Show a conversation, at one of its messages if that is said."""
        await self._is_open.wait()
        assert self._store is not None
        conversation = await asyncio.to_thread(self._store.conversation, conversation_id)
        await self._show(conversation, node_id)

    async def leave_conversation(self, conversation_id: int) -> None:
        """End what is answered in a conversation that is about to go, and show another one in its place."""
        assert self._sessions is not None
        await self._sessions.close(conversation_id)
        self._unread.discard(conversation_id)
        self._listed = [one for one in self._listed if one.id != conversation_id]
        if self.session is not None and self.session.conversation.id == conversation_id:
            self.talk.leave()
            await self._begin()

    async def change_conversation(self, conversation_id: int, **fields: Any) -> None:
        """Change what is kept of a conversation, whether it is shown or not."""
        assert self._store is not None
        if self.session is not None and self.session.conversation.id == conversation_id:
            await self.session.change(**fields)
        else:
            store = self._store
            await asyncio.to_thread(lambda: store.change(conversation_id, **fields))

    async def refresh_list(self) -> None:
        """Read the conversations again, and show them at the side."""
        assert self._store is not None and self._sessions is not None
        store = self._store
        self._listed = list(await asyncio.to_thread(lambda: store.conversations(limit=N_LISTED)))
        # The app may have ended meanwhile.
        for sidebar in self.query(ConversationList):
            current_id = None if self.session is None else self.session.conversation.id
            sidebar.show(self._listed, current_id, streaming=self._sessions.streaming_ids, unread=self._unread)

    async def offer_commands(self) -> None:
        """Tell the composer what may be written after a slash."""
        assert self._store is not None
        prompts = await asyncio.to_thread(self._store.prompts)
        self.talk.composer.set_offers(
            [
                *(Suggestion("command", command.name, command.help) for command in COMMANDS),
                *(Suggestion("prompt", f"/{prompt.name}", "Saved prompt", prompt.text) for prompt in prompts),
            ]
        )

    def follow_model(self, ref: str) -> None:
        """Answer with this model also in conversations to come, and load it."""
        self._ref = ref
        self.talk.show_engine()
        self._load(ref)

    def write(self, text: str) -> None:
        """Put text where one writes."""
        composer = self.talk.composer
        composer.insert(text)
        composer.focus()

    def say(self, text: str) -> None:
        """Tell the user something that is not a problem."""
        self.notify(text, markup=False)

    async def choose(self, ref: str) -> None:
        """Begin a conversation with a model."""
        self._chat_with(ref)

    @work(exclusive=True, group="show")
    async def _chat_with(self, ref: str) -> None:
        await self._is_open.wait()
        await self._begin(model=ref)
        await self.refresh_list()

    async def _show(self, conversation: Conversation, node_id: int | None = None) -> None:
        assert self._sessions is not None and self._store is not None
        session = await self._sessions.open(conversation, self._ref)
        session.ref = session.ref or self._ref
        tools = self.services.tools
        tools.chat_id, session.tools = conversation.id, session.tools or tools.runner(conversation.id)
        if node_id is not None and not session.is_busy and all(node.id != node_id for node in session.nodes):
            await session.show(node_id)
        draft = (await asyncio.to_thread(self._store.conversation, conversation.id)).draft
        self._unread.discard(conversation.id)
        self.talk.show(session, draft, node_id)
        await self.refresh_list()

    # What the conversation does.

    def _heard(self, session: ChatSession, event: SessionEvent) -> None:
        if session is self.session:
            self.talk.follow(event)
        elif isinstance(event, Finished):
            self._unread.add(session.conversation.id)
        if isinstance(event, Changed | PhaseChanged | Added):
            self._refresh()

    def on_engine_changed(self, message: EngineChanged) -> None:
        if self.session is not None and message.ref == self.session.ref:
            self.talk.show_engine()

    @on(ModelsChanged)
    @work(group="models")
    async def _look_for_models(self) -> None:
        if self._ref is None and self._store is not None:
            self._ref = await asyncio.to_thread(default_ref, self.services.settings, [])
            if self.session is not None and self.session.ref is None:
                self.session.ref = self._ref
            self.talk.show_engine()

    @work(exclusive=True, group="list")
    async def _refresh(self) -> None:
        await self.refresh_list()

    # What one writes.

    @on(Composer.Submitted)
    async def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        command = command_of(event.typed)
        if command is not None and not event.attachments:
            await self._run(*command)
        else:
            self.talk.asked(event)
            self._send(event.text)

    @on(Composer.SlashChosen)
    async def _slash_chosen(self, event: Composer.SlashChosen) -> None:
        event.stop()
        command = command_of(f"{event.name} {event.rest}".strip())
        if command is not None:
            await self._run(*command)

    async def _run(self, command: Command, rest: str) -> None:
        if rest:
            getattr(self, f"action_{command.action}")(rest)
        else:
            await self.run_action(command.action)

    @work(group="send")
    async def _send(self, text: str) -> None:
        await self._is_open.wait()
        session = self.session
        assert session is not None
        try:
            await session.send(text)
        except LocalLLMError as error:
            self.talk.give_back(text)
            self.localllm.show_error(error)

    @on(TextArea.Changed)
    def _typed(self) -> None:
        session, text = self.session, self.talk.composer.text
        if session is not None and self._store is not None:
            self._store.save_draft(session.conversation.id, text)
            if text:
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

    @on(Talk.EditWanted)
    def _edit(self, event: Talk.EditWanted) -> None:
        self._ask(lambda dialogs, session: dialogs.edit(session, event.node))

    @on(Transcript.TokensRequested)
    @work(exclusive=True, group="tokens")
    async def _show_tokens(self, event: Transcript.TokensRequested) -> None:
        from tui.chat.token_view import answer_to_view, go_another_way
        from tui.screens.tokens import TokenScreen

        session, node = self.session, event.node
        if session is None or node.role != "assistant" or not node.text:
            return
        try:
            wanted = await self.app.push_screen_wait(TokenScreen(await answer_to_view(self.services, session, node)))
            if wanted is not None:
                await go_another_way(session, node, wanted)
        except LocalLLMError as error:
            self.localllm.show_error(error)

    # Keys.

    @work(exclusive=True, group="show")
    async def action_new(self) -> None:
        """Begin another conversation."""
        await self._is_open.wait()
        await self.refresh_list()
        await self._begin()

    def action_stop(self) -> None:
        """End the answer; without one, write."""
        if self.session is not None and self.session.is_busy:
            self.talk.do(lambda session: session.stop())
        else:
            self.talk.composer.focus()

    def action_regenerate(self) -> None:
        """Answer the last question again; without one, load the model again."""
        if self.session is not None and not self.session.nodes and self.session.ref is not None:
            self._load(self.session.ref)
        else:
            self.talk.do(lambda session: session.regenerate())

    def action_resume(self) -> None:
        """Go on with the last answer."""
        self.talk.do(lambda session: session.resume())

    def action_thinking(self) -> None:
        """Think as the model has it, always, or never."""

        async def change(session: ChatSession) -> None:
            options = next_thinking(session.conversation.options)
            await session.change(options=options)
            self.say(f"Thinking: {_THINKING[options.get('thinking')]}")

        self.talk.do(change)

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

    def action_save_prompt(self, text: str = "") -> None:
        """Save a text as a prompt: what is written, where no other is given."""
        self._ask(lambda dialogs, session: dialogs.save_prompt(text or self.talk.composer.text))

    def action_attach(self, path: str = "") -> None:
        """Let a file go with the question."""
        if path:
            self.talk.composer.attach_files([Path(path).expanduser()])
        else:
            self._ask(lambda dialogs, session: dialogs.attach())

    @work(group="dialog")
    async def _ask(self, what: Callable[[ChatDialogs, ChatSession], Coroutine[Any, Any, None]]) -> None:
        from tui.screens.chat_dialogs import ChatDialogs

        await self._is_open.wait()
        assert self._store is not None
        if self.session is not None:
            await self.talk.guarded(what(ChatDialogs(self, self._store), self.session))

    def action_sidebar(self) -> None:
        """Show the conversations and go there, or hide them."""
        sidebar = self.query_one(ConversationList)
        self._sidebar_wanted = not sidebar.display
        sidebar.display = self._sidebar_wanted
        (sidebar if sidebar.display else self.talk.composer).focus()

    def action_neighbour(self, step: int) -> None:
        """Show the next or the previous conversation of the list."""
        ids = self.query_one(ConversationList).ids
        here = None if self.session is None else self.session.conversation.id
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
        shown_id = None if self.session is None else self.session.conversation.id
        self._wish(wish, sidebar.highlighted_id if sidebar.has_focus else shown_id)

    @work(group="dialog")
    async def _wish(self, wish: Wish, conversation_id: int | None) -> None:
        await self._is_open.wait()
        assert self._shelf is not None
        await self.talk.guarded(self._shelf.do(wish, conversation_id))

    def on_resize(self, event: events.Resize) -> None:
        wanted = {"auto": None, "show": True, "hide": False}[self.services.settings.sidebar]
        if self._sidebar_wanted is not None:
            wanted = self._sidebar_wanted
        self.query_one(ConversationList).display = event.size.width >= _WIDE if wanted is None else wanted
