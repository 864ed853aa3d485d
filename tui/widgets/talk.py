"""One conversation: its messages, what is wrong with its model, where one writes, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from localllm.errors import LocalLLMError
from tui.chat.events import (
    Added,
    Began,
    BranchShown,
    Cut,
    Finished,
    Measured,
    PhaseChanged,
    Refused,
    SessionEvent,
    Streamed,
)
from tui.chat.meter import Figures
from tui.chat.session import ChatSession
from tui.screens.mode import the_app
from tui.widgets.chat_footer import ChatFooter
from tui.widgets.composer import Composer
from tui.widgets.engine_notice import EngineNotice
from tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from localllm.conversations import Node
    from tui.engines import Engines

EMPTY = "Ask something; Enter sends it.\nCtrl+O chooses another model, Ctrl+F searches, F1 shows all keys."


class Talk(Vertical):
    """Shows a session and follows what it does.

    Args:
        engines: how the session's model is.
    """

    class EditWanted(Message):
        """A message shall be said otherwise."""

        def __init__(self, node: Node) -> None:
            super().__init__()
            self.node = node

    def __init__(self, engines: Engines) -> None:
        super().__init__(id="talk")
        self._engines = engines
        self._session: ChatSession | None = None
        self._asked: Composer.Submitted | None = None
        self._has_shown = False

    def compose(self) -> ComposeResult:
        yield Transcript(empty=EMPTY)
        yield EngineNotice()
        yield Composer()
        yield ChatFooter()

    @property
    def session(self) -> ChatSession | None:
        """What is shown; None until something is."""
        return self._session

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)

    def leave(self) -> None:
        """Follow nothing, while another session is on its way."""
        self._session = None

    def show(self, session: ChatSession, draft: str, node_id: int | None = None) -> None:
        """Show a session, at one of its messages if that is said."""
        self._session = None
        # What was typed before anything was shown belongs to what is shown first.
        self.composer.text = draft if self._has_shown else draft + self.composer.text
        if self._has_shown:
            self.composer.attachments = ()
        self._has_shown = True
        self.composer.set_sent([node.text for node in session.nodes if node.role == "user"])
        self._session = session
        self.transcript.show(session.path)
        if any(node.id == node_id for node in session.nodes):
            self.transcript.choose(node_id or 0)
        self.composer.focus()
        self.show_engine()

    def show_engine(self) -> None:
        """Show how the model is, and the figures of the last answer."""
        session = self._session
        if session is not None:
            state = None if session.ref is None else self._engines.state(session.ref)
            self.query_one(EngineNotice).show(session.ref, state)
            self._show_figures(session, last_figures(session.nodes))

    def follow(self, event: SessionEvent) -> None:
        """Show what the session does."""
        match event:
            case Streamed():
                if event.reasoning:
                    self.transcript.stream_reasoning(event.node_id, event.reasoning)
                if event.text:
                    self.transcript.stream_text(event.node_id, event.text)
            case Measured() if self._session is not None:
                self._show_figures(self._session, event.figures)
            case Cut():
                self.transcript.remove_after(event.after_id)
            case Added():
                self.transcript.begin(event.node)
            case Began():
                self._begin(event.node)
            case Finished():
                self.transcript.finish(event.node)
            case BranchShown():
                self.transcript.show(event.nodes)
            case PhaseChanged():
                self.show_engine()
            case Refused():
                self.give_back(event.text)
                the_app(self).show_error(event.error)

    @work(group="do")
    async def do(self, what: Callable[[ChatSession], Coroutine[Any, Any, None]]) -> None:
        """Do something with the session; what is wrong is a notice."""
        if self._session is not None:
            await self.guarded(what(self._session))

    async def guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something; what is wrong is a notice."""
        try:
            await work
        except LocalLLMError as error:
            the_app(self).show_error(error)

    @on(Transcript.RegenerateRequested)
    def _regenerate(self, event: Transcript.RegenerateRequested) -> None:
        self.do(lambda session: session.regenerate(event.node.id))

    @on(Transcript.ContinueRequested)
    def _continue(self, event: Transcript.ContinueRequested) -> None:
        self.do(lambda session: session.resume(event.node.id))

    @on(Transcript.SiblingRequested)
    def _switch(self, event: Transcript.SiblingRequested) -> None:
        self.do(lambda session: session.switch(event.node.id, event.by))

    @on(Transcript.EditRequested)
    def _edit(self, event: Transcript.EditRequested) -> None:
        self.post_message(self.EditWanted(event.node))

    @on(Composer.EditLastRequested)
    def _edit_last(self) -> None:
        questions = [node for node in self._session.nodes if node.role == "user"] if self._session else []
        if questions:
            self.post_message(self.EditWanted(questions[-1]))

    def asked(self, event: Composer.Submitted) -> None:
        """Remember how a question was put together, for the case that it comes back."""
        self._asked = event

    def give_back(self, text: str) -> None:
        """Put a question that was not asked where it was written, before what is written now."""
        composer = self.composer
        if self._asked is not None and self._asked.text == text:
            text, composer.attachments = self._asked.typed, self._asked.attachments
        composer.text = f"{text}\n{composer.text}" if composer.text else text
        composer.focus()

    def _begin(self, node: Node) -> None:
        ids = [shown.id for shown in self.transcript.nodes]
        if node.id in ids:
            place = ids.index(node.id)
            self.transcript.remove_after(ids[place - 1] if place else None)
        self.transcript.begin(node)

    def _show_figures(self, session: ChatSession, figures: Figures) -> None:
        state = None if session.ref is None else self._engines.state(session.ref)
        self.query_one(ChatFooter).show(session.ref, figures, session.phase, state)


def last_figures(nodes: list[Node]) -> Figures:
    """Return the figures of the last answer."""
    answers = (node for node in reversed(nodes) if node.role == "assistant" and node.facts)
    return next((Figures.of_facts(node.facts) for node in answers), Figures())
