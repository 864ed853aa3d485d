"""One message of the assistant while it streams: into the store, to the listener, through the meter."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui.chat.events import Measured, Phase, SessionEvent, Streamed
from tui.chat.meter import Meter

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore, Node
    from localllm.llm import LLM
    from localllm.llm.events import ChatEvent, Done

_MEASURE_EVERY_S = 0.25


class Answering:
    """Streams one answer.

    Args:
        node: the message that grows.
        store: keeps it.
        tell: the listener.
        enter: told of phases.
    """

    def __init__(
        self, node: Node, store: ConversationStore, tell: Callable[[SessionEvent], None], enter: Callable[[Phase], None]
    ) -> None:
        self.node = node
        self.meter = Meter(0)
        self.has_said = False
        """Whether anything came."""
        self._store = store
        self._tell = tell
        self._enter = enter
        self._measured_s = 0.0
        self._text: list[str] = []
        self._reasoning: list[str] = []

    @property
    def so_far(self) -> Node:
        """The message with all that has come."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return replace(self.node, text=self.node.text + text, reasoning=self.node.reasoning + reasoning)

    async def stream(self, llm: LLM, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> Done:
        """Ask, and pass on what comes until the end.

        Raises:
            LocalLLMError: as `LLM.achat`.
        """
        from localllm.errors import AnswerBroken
        from localllm.llm.events import Done

        self.meter = Meter(llm.info.n_ctx)
        self._enter("reading")
        async with aclosing(llm.achat(list(messages), **options)) as events:
            async for event in events:
                self.meter.accept(event)
                if isinstance(event, Done):
                    return event
                self._pass_on(event)
        raise AnswerBroken("The answer has no end.", hint="Ask again.")

    def _pass_on(self, event: ChatEvent) -> None:
        from localllm.llm.events import ReasoningDelta, TextDelta

        if isinstance(event, TextDelta):
            self._add(text=event.text)
        elif isinstance(event, ReasoningDelta):
            self._add(reasoning=event.text)
        self._measure()

    def _add(self, text: str = "", reasoning: str = "") -> None:
        if not self.has_said:
            self.has_said = True
            self._enter("writing")
        self._text.append(text)
        self._reasoning.append(reasoning)
        self._store.append(self.node.id, text=text, reasoning=reasoning)
        self._tell(Streamed(self.node.id, text, reasoning))

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured_s >= _MEASURE_EVERY_S:
            self._measured_s = now
            self._tell(Measured(self.meter.figures))
