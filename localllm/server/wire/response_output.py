"""The items that a response puts out, and the events that tell of each as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

from localllm.llm.events import TokenChoice
from localllm.server.wire.response_items import new_id, sealed
from localllm.server.wire.usage import chat_logprobs

Event = tuple[str, dict[str, Any]]
"""The name of an event, and its fields."""
Status = Literal["in_progress", "completed", "incomplete"]


class OutputItem(Protocol):
    """One item of the output, in the making."""

    def opening(self) -> Iterator[Event]:
        """Yield the events that announce it."""

    def closing(self, status: Status) -> Iterator[Event]:
        """Yield the events that tell that it is there in full, or was cut off."""

    def whole(self, status: Status) -> dict[str, Any]:
        """Return the item as it is."""


class MessageOutput:
    """What the model says."""

    def __init__(self, output_index: int) -> None:
        self._id = new_id("msg")
        self._place = {"item_id": self._id, "output_index": output_index, "content_index": 0}
        self._output_index = output_index
        self._pieces: list[str] = []
        self._logprobs: list[TokenChoice] = []

    def opening(self) -> Iterator[Event]:
        item = {**self.whole("in_progress"), "content": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield "response.content_part.added", {**self._place, "part": self._part()}

    def delta(self, piece: str, logprobs: tuple[TokenChoice, ...]) -> Iterator[Event]:
        """Yield the event that adds a piece of text."""
        self._pieces.append(piece)
        self._logprobs.extend(logprobs)
        fields = {"delta": piece, "logprobs": chat_logprobs(logprobs)["content"]}
        yield "response.output_text.delta", {**self._place, **fields}

    def closing(self, status: Status) -> Iterator[Event]:
        part = self._part()
        yield "response.output_text.done", {**self._place, "text": part["text"], "logprobs": part["logprobs"]}
        yield "response.content_part.done", {**self._place, "part": part}
        yield "response.output_item.done", {"output_index": self._output_index, "item": self.whole(status)}

    def whole(self, status: Status) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "status": status, "role": "assistant", "content": [self._part()]}

    def _part(self) -> dict[str, Any]:
        logprobs = chat_logprobs(self._logprobs)["content"]
        return {"type": "output_text", "text": "".join(self._pieces), "annotations": [], "logprobs": logprobs}


class CallOutput:
    """A function that the model calls."""

    def __init__(self, output_index: int, call_id: str, name: str) -> None:
        self._id = new_id("fc")
        self._place = {"item_id": self._id, "output_index": output_index}
        self._output_index = output_index
        self._call_id = call_id
        self._name = name
        self._pieces: list[str] = []

    def opening(self) -> Iterator[Event]:
        item = self.whole("in_progress")
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}

    def delta(self, piece: str) -> Iterator[Event]:
        """Yield the event that adds a piece of the arguments."""
        self._pieces.append(piece)
        yield "response.function_call_arguments.delta", {**self._place, "delta": piece}

    def closing(self, status: Status) -> Iterator[Event]:
        fields = {"name": self._name, "arguments": "".join(self._pieces)}
        yield "response.function_call_arguments.done", {**self._place, **fields}
        yield "response.output_item.done", {"output_index": self._output_index, "item": self.whole(status)}

    def whole(self, status: Status) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._pieces),
        }


class ReasoningOutput:
    """What the model thinks.

    Args:
        output_index: its place in the output.
        is_summary: whether it goes out as a summary, which is what most clients show, or as the content that it is.
        is_sealed: whether the item has it once more in the form that clients carry from turn to turn.
    """

    def __init__(self, output_index: int, *, is_summary: bool, is_sealed: bool) -> None:
        self._id = new_id("rs")
        self._output_index = output_index
        self._is_summary = is_summary
        self._is_sealed = is_sealed
        self._pieces: list[str] = []
        index = "summary_index" if is_summary else "content_index"
        self._place = {"item_id": self._id, "output_index": output_index, index: 0}
        self._text_event = "response.reasoning_summary_text" if is_summary else "response.reasoning_text"
        self._part_event = "response.reasoning_summary_part" if is_summary else "response.content_part"

    def opening(self) -> Iterator[Event]:
        item = {"id": self._id, "type": "reasoning", "status": "in_progress", "summary": [], "content": []}
        yield "response.output_item.added", {"output_index": self._output_index, "item": item}
        yield f"{self._part_event}.added", {**self._place, "part": self._part()}

    def delta(self, piece: str) -> Iterator[Event]:
        """Yield the event that adds a piece."""
        self._pieces.append(piece)
        yield f"{self._text_event}.delta", {**self._place, "delta": piece}

    def closing(self, status: Status) -> Iterator[Event]:
        part = self._part()
        yield f"{self._text_event}.done", {**self._place, "text": part["text"]}
        yield f"{self._part_event}.done", {**self._place, "part": part}
        yield "response.output_item.done", {"output_index": self._output_index, "item": self.whole(status)}

    def whole(self, status: Status) -> dict[str, Any]:
        parts = [self._part()]
        item: dict[str, Any] = {
            "id": self._id,
            "type": "reasoning",
            "status": status,
            "summary": parts if self._is_summary else [],
            "content": [] if self._is_summary else parts,
        }
        return {**item, "encrypted_content": sealed("".join(self._pieces))} if self._is_sealed else item

    def _part(self) -> dict[str, Any]:
        return {"type": "summary_text" if self._is_summary else "reasoning_text", "text": "".join(self._pieces)}
