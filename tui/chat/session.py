"""One conversation with its model: what is asked, how the answer comes, and what is kept of it.

What streams is written down as it comes (`ConversationStore.append`), so that no end of the process takes it along.
This module knows no widgets: a listener gets typed events (`tui.chat.events`), on the interface's thread.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from localllm.errors import ContextLengthExceeded, EngineError, LocalLLMError, ModelNotFound, RequestError
from tui.chat.answering import Answering
from tui.chat.events import (
    Added,
    Began,
    BranchShown,
    Changed,
    Cut,
    Finished,
    Measured,
    Phase,
    PhaseChanged,
    Refused,
    SessionEvent,
)
from tui.chat.options import answer_options

if TYPE_CHECKING:
    from localllm.chat.messages import ToolCall
    from localllm.config import Settings
    from localllm.conversations import Conversation, ConversationStore, Node, NodeRole, NodeState
    from localllm.llm.events import Done
    from tui.engines import Engines

MAX_ROUNDS = 12
"""Times that a model may call tools before it has to answer."""
TITLE_CHARS = 60
_STATES: dict[str, NodeState] = {"length": "length", "cancelled": "stopped"}
"""How a message is kept, by why it ended; "done" for all else."""
_STOPPED_CALL = "The user stopped this call."


class ToolRunner(Protocol):
    """The tools of a conversation."""

    async def prepare(self) -> None:
        """Make the tools known, so that `specs` has them; what fails is told elsewhere."""

    def specs(self) -> Sequence[Mapping[str, Any]]:
        """Return the functions that the model may call, in OpenAI's shape."""

    async def run(self, call: ToolCall) -> str:
        """Run a call, after asking the user, and return what the model is told: the result, or why there is none."""


class ChatSession:
    """Asks and keeps the answers. All methods are called on the interface's thread.

    Args:
        store: where the conversation is kept.
        engines: where models come from.
        settings: what applies now where the conversation does not say.
        conversation: which one.
        ref: its model; None: there is none yet.
        listener: gets what happens.
    """

    def __init__(
        self,
        store: ConversationStore,
        engines: Engines,
        settings: Callable[[], Settings],
        conversation: Conversation,
        ref: str | None,
        listener: Callable[[SessionEvent], None],
    ) -> None:
        self.tools: ToolRunner | None = None
        self.conversation = conversation
        self.ref = ref
        self.nodes: list[Node] = []
        """The path that is shown; of a message that streams, its beginning."""
        self.phase: Phase = "idle"
        self._store = store
        self._engines = engines
        self._settings = settings
        self._tell = listener
        self._task: asyncio.Task[None] | None = None
        self._end_state: NodeState = "stopped"
        self._answering: Answering | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def path(self) -> list[Node]:
        """The path that is shown, with all that has come."""
        return self.nodes if self._answering is None else [*self.nodes[:-1], self._answering.so_far]

    async def load(self) -> None:
        """Read the path from the store."""
        self.nodes = list(await asyncio.to_thread(self._store.path, self.conversation.id))

    async def send(self, text: str) -> None:
        """Ask a question; returns when it is kept, and the answer comes by events."""
        self._check_free()
        title = title_of(text)
        if not self.conversation.title and title:
            await self.change(title=title)
        question = await self._add(self.nodes[-1].id if self.nodes else None, "user", text)
        self._tell(Added(question))
        self._start(question.id, asked=question)

    async def regenerate(self, node_id: int | None = None) -> None:
        """Answer again: a sibling of the answer `node_id`, or of the last one. An answer without a word is replaced."""
        self._check_free()
        node = self._node(node_id) if node_id is not None else (self.nodes[-1] if self.nodes else None)
        if node is None:
            raise RequestError("There is no answer yet.", hint="Ask something first.")
        if node.role == "tool":
            return self._start(node.id)
        parent_id = node.id if node.role == "user" else node.parent_id
        self._cut(parent_id)
        if node.role == "assistant" and is_empty(node):
            await asyncio.to_thread(self._store.remove, node.id)
        return self._start(parent_id)

    async def edit(self, node_id: int, text: str) -> None:
        """Say it otherwise: a sibling of the message. A question is answered again."""
        self._check_free()
        node = self._node(node_id)
        self._cut(node.parent_id)
        sibling = await self._add(node.parent_id, node.role, text, model=node.model)
        self._tell(Added(sibling))
        if node.role == "user":
            self._start(sibling.id)

    async def resume(self, node_id: int | None = None) -> None:
        """Go on with an answer that was cut off; without a word to go on from, begin it anew."""
        self._check_free()
        node = self._node(node_id) if node_id is not None else (self.nodes[-1] if self.nodes else None)
        if node is None or node.role == "user" or not node.text or node.tool_calls:
            return await self.regenerate(node_id)
        if node.role == "tool":
            return self._start(node.id)
        self._cut(node.id)
        return self._start(node.parent_id, goes_on=node)

    async def switch(self, node_id: int, step: int) -> None:
        """Show the branch of the next or the previous sibling of a message."""
        self._check_free()
        siblings = await asyncio.to_thread(self._store.siblings, node_id)
        place = next((i for i, node in enumerate(siblings) if node.id == node_id), 0) + step
        if 0 <= place < len(siblings):
            await self.show(siblings[place].id)

    async def show(self, node_id: int) -> None:
        """Show the branch that a message is on."""
        self._check_free()
        self.nodes = list(await asyncio.to_thread(self._store.choose, self.conversation.id, node_id))
        self._tell(BranchShown(tuple(self.nodes)))

    async def change(self, **fields: Any) -> None:
        """Change the conversation's title, model, system prompt or options."""
        self.conversation = await asyncio.to_thread(lambda: self._store.change(self.conversation.id, **fields))
        self._tell(Changed(self.conversation))

    async def use(self, ref: str) -> None:
        """Answer with another model from now on."""
        self.ref = ref
        await self.change(model=ref)

    async def stop(self, state: NodeState = "stopped") -> None:
        """End the answer; what came of it is kept, marked as `state`."""
        if self._task is not None:
            self._end_state = state
            self._task.cancel()
            await self.wait()

    async def wait(self) -> None:
        """Wait until nothing is being answered."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # The answer.

    def _start(self, parent_id: int | None, *, asked: Node | None = None, goes_on: Node | None = None) -> None:
        self._end_state = "stopped"
        self._task = asyncio.create_task(self._answer(parent_id, asked, goes_on))

    async def _answer(self, parent_id: int | None, asked: Node | None, goes_on: Node | None) -> None:
        try:
            for n_round in range(MAX_ROUNDS + 1):
                answering = await self._begun(parent_id, goes_on)
                may_call = n_round < MAX_ROUNDS
                done = await self._one_answer(answering, asked, goes_on=goes_on is not None, may_call=may_call)
                if done is None or done.finish_reason != "tool_calls" or self.tools is None:
                    return
                self._enter("tools")
                parent_id, asked, goes_on = await self._run_tools(self.tools, answering.node.id, done), None, None
        finally:
            self._enter("idle")

    async def _one_answer(
        self, answering: Answering, asked: Node | None, *, goes_on: bool, may_call: bool
    ) -> Done | None:
        """Stream one message of the assistant and keep it; None where it did not come to its end."""
        try:
            done = await self._stream(answering, goes_on, may_call)
        except ContextLengthExceeded as error:
            if asked is None or answering.has_said:
                await self._fail(answering, error)
            else:
                await self._take_back(asked, answering.node, error)
        except LocalLLMError as error:
            await self._fail(answering, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._finish(answering, self._end_state))
            raise
        except Exception as error:
            await self._fail(answering, EngineError(f"{type(error).__name__}: {error}", hint="This is a bug."))
        else:
            state: NodeState = _STATES.get(done.finish_reason, "done")
            await self._finish(answering, state, tool_calls=done.tool_calls)
            return done
        return None

    async def _stream(self, answering: Answering, goes_on: bool, may_call: bool) -> Done:
        if self.ref is None:
            raise ModelNotFound("No model is chosen.", hint="Ctrl+O chooses one, F3 fetches one.")
        self._enter("loading")
        llm = await self._engines.open(self.ref)
        messages = await asyncio.to_thread(self._store.messages, self.conversation.id)
        options = answer_options(self._settings(), self.conversation, self.ref)
        if goes_on:
            options["continue_final_message"] = True
        elif self.tools is not None and may_call:
            await self.tools.prepare()
            if specs := self.tools.specs():
                options["tools"] = list(specs)
        with self._engines.using(self.ref):
            return await answering.stream(llm, messages, options)

    async def _run_tools(self, tools: ToolRunner, parent_id: int, done: Done) -> int:
        """Run the calls one after the other, and return the last result's id; a call that is stopped has one, too."""
        for place, call in enumerate(done.tool_calls):
            try:
                result = await tools.run(call)
            except asyncio.CancelledError:
                for unanswered in done.tool_calls[place:]:
                    parent_id = await asyncio.shield(self._add_result(parent_id, unanswered, _STOPPED_CALL))
                raise
            except Exception as error:
                result = f"The call failed: {error}"
            parent_id = await self._add_result(parent_id, call, result)
        return parent_id

    async def _add_result(self, parent_id: int, call: ToolCall, result: str) -> int:
        node = await self._add(parent_id, "tool", result, tool_call_id=call.id)
        self._tell(Added(node))
        return node.id

    # What is kept.

    async def _begun(self, parent_id: int | None, goes_on: Node | None) -> Answering:
        """Begin a message; one that is stopped meanwhile is kept as such."""
        task = asyncio.create_task(self._begin(parent_id, goes_on))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._finish(await task, self._end_state)
            raise

    async def _begin(self, parent_id: int | None, goes_on: Node | None) -> Answering:
        if goes_on is None:
            node = await self._add(parent_id, "assistant", "", state="writing", model=self.ref)
        else:
            node = await asyncio.to_thread(lambda: self._store.finish(goes_on.id, state="writing"))
            self.nodes[-1] = node
        self._tell(Began(node))
        self._answering = Answering(node, self._store, self._tell, self._enter)
        return self._answering

    async def _add(self, parent_id: int | None, role: NodeRole, text: str, **fields: Any) -> Node:
        node = await asyncio.to_thread(lambda: self._store.add(self.conversation.id, parent_id, role, text, **fields))
        self.nodes.append(node)
        return node

    async def _finish(self, answering: Answering, state: NodeState, **fields: Any) -> None:
        facts = answering.meter.facts() if answering.has_said or state == "done" else None
        node = await asyncio.to_thread(
            lambda: self._store.finish(answering.node.id, state=state, facts=facts, **fields)
        )
        self.nodes[-1] = node
        self._answering = None
        self._tell(Finished(node))
        if facts is not None:
            self._tell(Measured(answering.meter.figures))

    async def _fail(self, answering: Answering, error: LocalLLMError) -> None:
        # The engine's state is looked at now, so that a crash is known before anyone asks again.
        if self.ref is not None:
            self._engines.state(self.ref)
        words = f"{error.message} {error.hint}" if error.hint else error.message
        await self._finish(answering, "interrupted" if answering.has_said else "failed", error=words)

    async def _take_back(self, asked: Node, node: Node, error: LocalLLMError) -> None:
        """Forget a question that was not asked, so that it can be changed."""
        self._answering = None
        await asyncio.to_thread(self._store.remove, node.id)
        await asyncio.to_thread(self._store.remove, asked.id)
        self._cut(asked.parent_id)
        self._tell(Refused(asked.text, error))

    def _cut(self, after_id: int | None) -> None:
        place = next((i + 1 for i, node in enumerate(self.nodes) if node.id == after_id), 0)
        if place < len(self.nodes):
            del self.nodes[place:]
            self._tell(Cut(after_id))

    def _node(self, node_id: int) -> Node:
        found = next((node for node in self.nodes if node.id == node_id), None)
        if found is None:
            raise RequestError("This message is not shown any more.", hint="Choose another one.")
        return found

    def _check_free(self) -> None:
        if self.is_busy:
            raise RequestError("The model is still answering.", hint="Esc stops it.")

    def _enter(self, phase: Phase) -> None:
        if phase != self.phase:
            self.phase = phase
            self._tell(PhaseChanged(phase))


def is_empty(node: Node) -> bool:
    """Tell whether an answer ended before its first word."""
    return not (node.text or node.reasoning or node.tool_calls)


def title_of(question: str) -> str:
    """Return a title for a conversation that begins so: the first line with something in it, cut between words."""
    line = next((line.strip() for line in question.splitlines() if line.strip()), "")
    return textwrap.shorten(line, TITLE_CHARS, placeholder="…") or line[:TITLE_CHARS]
