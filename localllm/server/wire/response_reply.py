"""The answers of OpenAI's Responses API: a response of items, whole or as the events of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from localllm.errors import EngineClosed
from localllm.llm.events import ChatEvent, Done, Progress, ReasoningDelta, TextDelta, ToolCallDelta, Waiting
from localllm.server.errors import Problem
from localllm.server.wire.frames import sse_event
from localllm.server.wire.response_items import new_id
from localllm.server.wire.response_output import (
    CallOutput,
    Event,
    MessageOutput,
    OutputItem,
    ReasoningOutput,
    Status,
)
from localllm.server.wire.usage import evicted_usage

_COMPLETE = ("stop", "tool_calls")


class ResponseReply:
    """The answer to a request of the Responses API.

    Args:
        model: the name that the client used.
        echo: what the response repeats of its request.
        summarizes: whether reasoning goes out as a summary.
        seals_reasoning: whether reasoning goes out once more in a form that clients carry along.
        on_end: called with the response when it has ended, however it did.
    """

    def __init__(
        self,
        model: str,
        echo: Mapping[str, Any],
        *,
        summarizes: bool = False,
        seals_reasoning: bool = False,
        on_end: Callable[[Mapping[str, Any]], None] = lambda _: None,
    ) -> None:
        self._summarizes = summarizes
        self._seals_reasoning = seals_reasoning
        self._on_end = on_end
        self._n_events = 0
        self._items: list[OutputItem] = []
        self._open: OutputItem | None = None
        self._call_index: int | None = None
        self._output: list[dict[str, Any]] = []
        self._response: dict[str, Any] = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **echo,
        }

    def accept(self, event: ChatEvent) -> bytes:
        start = self._begin()
        match event:
            case Progress() | Waiting():
                return start
            case TextDelta():
                return start + self._text(event)
            case ReasoningDelta():
                return start + self._reasoning(event)
            case ToolCallDelta():
                return start + self._call(event)
            case Done():
                return start + self._finish(event)

    def end(self) -> bytes:
        return b""

    def fail(self, problem: Problem) -> bytes:
        code = "server_error" if problem.status >= 500 else "invalid_prompt"
        pieces = self._begin() + self._close("incomplete")
        self._end("failed", error={"code": code, "message": problem.message})
        return pieces + self._emit([("response.failed", {"response": self._response})])

    def body(self) -> Mapping[str, Any]:
        return self._response

    def _begin(self) -> bytes:
        if self._n_events:
            return b""
        return self._emit(
            [(name, {"response": self._response}) for name in ("response.created", "response.in_progress")]
        )

    def _text(self, event: TextDelta) -> bytes:
        opening = b""
        if not isinstance(self._open, MessageOutput):
            opening = self._switch(MessageOutput(len(self._items)))
        assert isinstance(self._open, MessageOutput)
        return opening + self._emit(self._open.delta(event.text, event.logprobs))

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        opening = b""
        if not isinstance(self._open, ReasoningOutput):
            place = len(self._items)
            opening = self._switch(ReasoningOutput(place, is_summary=self._summarizes, is_sealed=self._seals_reasoning))
        assert isinstance(self._open, ReasoningOutput)
        return opening + self._emit(self._open.delta(event.text))

    def _call(self, event: ToolCallDelta) -> bytes:
        opening = b""
        if not isinstance(self._open, CallOutput) or self._call_index != event.call_index:
            opening = self._switch(CallOutput(len(self._items), event.id or new_id("call"), event.name or ""))
            self._call_index = event.call_index
        assert isinstance(self._open, CallOutput)
        return opening + (self._emit(self._open.delta(event.arguments)) if event.arguments else b"")

    def _switch(self, item: OutputItem) -> bytes:
        """Close the item that is open, and open the next."""
        closing = self._close("completed")
        self._items.append(item)
        self._open = item
        return closing + self._emit(item.opening())

    def _close(self, status: Status) -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        self._output.append(item.whole(status))
        return self._emit(item.closing(status))

    def _finish(self, done: Done) -> bytes:
        """End the response.

        Raises:
            EngineClosed: the model was unloaded before the answer was complete.
        """
        is_complete = done.finish_reason in _COMPLETE
        if not is_complete and done.finish_reason != "length":
            raise EngineClosed("The model was unloaded before the answer was complete.", hint="Try again.")
        status: Status = "completed" if is_complete else "incomplete"
        closing = self._close(status)
        details = None if is_complete else {"reason": "max_output_tokens"}
        completed_at = int(time.time()) if is_complete else None
        self._end(status, completed_at=completed_at, incomplete_details=details, usage=_usage(done))
        return closing + self._emit([(f"response.{status}", {"response": self._response})])

    def _end(self, status: str, **fields: Any) -> None:
        self._response |= {"status": status, "output": self._output, **fields}
        self._on_end(self._response)

    def _emit(self, events: Iterable[Event]) -> bytes:
        pieces = []
        for name, fields in events:
            pieces.append(sse_event(name, {"type": name, "sequence_number": self._n_events, **fields}))
            self._n_events += 1
        return b"".join(pieces)


def _usage(done: Done) -> dict[str, Any]:
    usage = done.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": done.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        **evicted_usage(usage.evicted_tokens),
    }
