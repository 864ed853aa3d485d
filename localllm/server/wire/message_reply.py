"""Anthropic's answers: a message of content blocks, whole or as the events of a stream."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import from_json

from localllm.errors import EngineClosed
from localllm.llm.events import ChatEvent, Done, Progress, ReasoningDelta, TextDelta, ToolCallDelta, Waiting
from localllm.server.errors import Problem, anthropic_error
from localllm.server.wire.frames import sse_event
from localllm.server.wire.usage import evicted_usage

PING = sse_event("ping", {"type": "ping"})
SIGNATURE = "localllm"
"""Clients send a thinking block back with its signature. Here there is nobody to deceive, so all have the same."""

Kind = Literal["text", "thinking", "tool_use"]
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class _Block:
    """One content block so far."""

    def __init__(self, kind: Kind, key: int, *, call_id: str = "", name: str = "") -> None:
        self.kind = kind
        self.key = key
        """Tells the block of one call from that of the next."""
        self._head: dict[str, Any] = {"id": call_id, "name": name} if kind == "tool_use" else {}
        self._pieces: list[str] = []

    def opening(self) -> dict[str, Any]:
        return {"type": self.kind, **self._head, **self._value("")}

    def delta(self, piece: str) -> dict[str, Any]:
        self._pieces.append(piece)
        field = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}[self.kind]
        name = "input_json_delta" if self.kind == "tool_use" else f"{self.kind}_delta"
        return {"type": name, field: piece}

    def whole(self) -> dict[str, Any]:
        sealed = {"signature": SIGNATURE} if self.kind == "thinking" else {}
        return {**self.opening(), **self._value("".join(self._pieces)), **sealed}

    def _value(self, text: str) -> dict[str, Any]:
        match self.kind:
            case "text":
                return {"text": text, "citations": None}
            case "thinking":
                return {"thinking": text, "signature": ""}
            case "tool_use":
                return {"input": _arguments(text)}


def _arguments(text: str) -> Any:
    """Return the input of a call; of one that was cut off, what is there of it."""
    try:
        value = from_json(text, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class MessageReply:
    """The answer to a request of the Messages API.

    Args:
        model: the name that the client used.
        thinks: whether thinking makes blocks; else it is left out, since who did not ask for it does not expect it.
        shows_thinking: whether these blocks have text.
    """

    def __init__(self, model: str, *, thinks: bool, shows_thinking: bool) -> None:
        self._thinks = thinks
        self._shows_thinking = shows_thinking
        self._blocks: list[_Block] = []
        self._is_open = False
        self._began = False
        self._n_prompt = self._n_cached = 0
        self._message: dict[str, Any] = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def accept(self, event: ChatEvent) -> bytes:
        match event:
            case Progress():
                self._n_prompt, self._n_cached = event.n_total, event.n_cached
                # The first one only says that the request was accepted; what is cached is known from the second on.
                return self._begin() if event.n_done else b""
            case Waiting():
                return b""
            case TextDelta():
                return self._begin() + self._more("text", event.text)
            case ReasoningDelta():
                return self._begin() + (self._more("thinking", event.text) if self._thinks else b"")
            case ToolCallDelta():
                return self._begin() + self._call(event)
            case Done():
                return self._begin() + self._finish(event)

    def end(self) -> bytes:
        return sse_event("message_stop", {"type": "message_stop"})

    def fail(self, problem: Problem) -> bytes:
        return sse_event("error", anthropic_error(problem))

    def body(self) -> Mapping[str, Any]:
        return self._message

    def _begin(self) -> bytes:
        if self._began:
            return b""
        self._began = True
        message = {**self._message, "usage": _usage(self._n_prompt, self._n_cached, 0)}
        return sse_event("message_start", {"type": "message_start", "message": message})

    def _call(self, event: ToolCallDelta) -> bytes:
        call_id, name = event.id or f"toolu_{uuid.uuid4().hex[:24]}", event.name or ""
        return self._more("tool_use", event.arguments, key=event.call_index, call_id=call_id, name=name)

    def _more(self, kind: Kind, piece: str, *, key: int = 0, **head: str) -> bytes:
        """Add to the block that is open, or to a new one if that is another."""
        opening = b""
        if not self._is_open or (self._blocks[-1].kind, self._blocks[-1].key) != (kind, key):
            opening = self._close()
            self._blocks.append(_Block(kind, key, **head))
            self._is_open = True
            opening += self._event("content_block_start", content_block=self._blocks[-1].opening())
        if kind == "thinking" and not self._shows_thinking:
            return opening
        return opening + (self._event("content_block_delta", delta=self._blocks[-1].delta(piece)) if piece else b"")

    def _close(self) -> bytes:
        if not self._is_open:
            return b""
        self._is_open = False
        sealing = b""
        if self._blocks[-1].kind == "thinking":
            sealing = self._event("content_block_delta", delta={"type": "signature_delta", "signature": SIGNATURE})
        return sealing + self._event("content_block_stop")

    def _finish(self, done: Done) -> bytes:
        """End the message.

        Raises:
            EngineClosed: the model was unloaded before the answer was complete.
        """
        if done.finish_reason not in _STOP_REASONS:
            raise EngineClosed("The model was unloaded before the answer was complete.", hint="Try again.")
        closing = self._close()
        delta = {"stop_reason": _stop_reason(done), "stop_sequence": done.stop_text}
        usage = _usage(done.usage.prompt_tokens, done.usage.cached_tokens, done.usage.completion_tokens)
        usage |= evicted_usage(done.usage.evicted_tokens)
        if done.reasoning_tokens:
            usage["output_tokens_details"] = {"thinking_tokens": done.reasoning_tokens}
        self._message |= {"content": [block.whole() for block in self._blocks], **delta, "usage": usage}
        return closing + sse_event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})

    def _event(self, name: str, **fields: Any) -> bytes:
        return sse_event(name, {"type": name, "index": len(self._blocks) - 1, **fields})


def _stop_reason(done: Done) -> str:
    if done.finish_reason == "length" and done.cause == "context_full":
        return "model_context_window_exceeded"
    if done.finish_reason == "stop" and done.stop_text is not None:
        return "stop_sequence"
    return _STOP_REASONS[done.finish_reason]


def _usage(n_prompt: int, n_cached: int, n_completion: int) -> dict[str, Any]:
    """Return the counts as Anthropic gives them: input_tokens are those that were not in the cache."""
    return {
        "input_tokens": n_prompt - n_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": n_cached,
        "output_tokens": n_completion,
    }
