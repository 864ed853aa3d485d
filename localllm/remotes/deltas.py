"""The chunks of a streamed answer, as typed pieces.

Servers differ in what they leave out and in what they call reasoning; what a chunk lacks is none, and what it has in a
wrong shape is an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextPiece:
    """More text for the reader."""

    text: str
    index: int = 0


@dataclass(frozen=True)
class ReasoningPiece:
    """More of what the model thinks."""

    text: str
    index: int = 0


@dataclass(frozen=True)
class CallPiece:
    """More of a call of a tool."""

    call_index: int
    id: str | None
    name: str | None
    arguments: str
    index: int = 0


@dataclass(frozen=True)
class End:
    """One completion has ended."""

    reason: str
    """In the server's own words, such as "stop" or "length"."""
    index: int = 0


@dataclass(frozen=True)
class TokenCounts:
    """What the server counted."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Silence:
    """Nothing came for a while; the answer goes on."""

    seconds: float


Delta = TextPiece | ReasoningPiece | CallPiece | End | TokenCounts | Silence


class MalformedChunk(ValueError):
    """A chunk that is none; the text says what is wrong."""


def parse_chunk(data: str) -> dict[str, Any]:
    """Return the JSON object of an event.

    Raises:
        MalformedChunk: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedChunk(f"no JSON: {data[:80]}") from None
    if not isinstance(value, dict):
        raise MalformedChunk(f"no JSON object: {data[:80]}")
    return value


def deltas_of(chunk: dict[str, Any]) -> list[Delta]:
    """Return what a chunk of a chat completion, or of a completion, says.

    Raises:
        MalformedChunk: it has another shape than OpenAI's.
    """
    found: list[Delta] = []
    for choice in _list(chunk, "choices"):
        if not isinstance(choice, dict):
            raise MalformedChunk("a choice that is no object")
        found += _of_choice(choice)
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        found.append(_counts(usage))
    return found


def _of_choice(choice: dict[str, Any]) -> list[Delta]:
    index = _integer(choice, "index")
    # A server that does not stream sends a whole message.
    delta = choice.get("delta") or choice.get("message") or {}
    if not isinstance(delta, dict):
        raise MalformedChunk("a delta that is no object")
    found: list[Delta] = []
    if thought := _text(delta, "reasoning_content") or _text(delta, "reasoning"):
        found.append(ReasoningPiece(thought, index))
    if text := _text(delta, "content") or _text(choice, "text"):
        found.append(TextPiece(text, index))
    found += [_call(call, place, index) for place, call in enumerate(_list(delta, "tool_calls"))]
    if reason := _text(choice, "finish_reason"):
        found.append(End(reason, index))
    return found


def _call(call: Any, place: int, index: int) -> CallPiece:
    function = (call.get("function") or {}) if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise MalformedChunk("a tool call that is no object")
    name = _text(function, "name") or None
    call_index = _integer(call, "index") if "index" in call else place
    return CallPiece(call_index, _text(call, "id") or None, name, _text(function, "arguments"), index)


def _counts(usage: dict[str, Any]) -> TokenCounts:
    of_prompt, of_answer = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return TokenCounts(
        _integer(usage, "prompt_tokens"),
        _integer(usage, "completion_tokens"),
        _integer(of_prompt, "cached_tokens") if isinstance(of_prompt, dict) else 0,
        _integer(of_answer, "reasoning_tokens") if isinstance(of_answer, dict) else 0,
    )


def _list(table: dict[str, Any], key: str) -> list[Any]:
    value = table.get(key)
    if value is not None and not isinstance(value, list):
        raise MalformedChunk(f"{key} that is no list")
    return value or []


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedChunk(f"{key} that is no text")
    return value or ""


def _integer(table: dict[str, Any], key: str) -> int:
    value = table.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise MalformedChunk(f"{key} that is no count")
    return value or 0
