"""Fitting the calls of a conversation, and their results, to what a template takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from localllm.chat.messages import Message, ToolCall

_N_ID_CHARS = 9


def with_names(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with each result naming the function whose result it is, which some templates show."""
    names: dict[str | None, str] = {}
    named = []
    for message in messages:
        names.update((call.id, call.function.name) for call in message.tool_calls)
        if message.role == "tool" and message.name is None and message.tool_call_id in names:
            message = msgspec.structs.replace(message, name=names[message.tool_call_id])
        named.append(message)
    return named


def one_call_each(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with several calls in one made several messages, each followed by its result."""
    split: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            split.append(message)
            continue
        n_results = next((i for i, other in enumerate(rest) if other.role != "tool"), len(rest))
        results, rest = rest[:n_results], rest[n_results:]
        for index, call in enumerate(message.tool_calls):
            part = msgspec.structs.replace(message, tool_calls=(call,))
            if index:
                part = msgspec.structs.replace(part, content=None, reasoning=None)
            own = [r for r in results if _is_result(r, call)] or results[:1]
            split += [part, *own]
            results = [r for r in results if not any(r is taken for taken in own)]
        split += results
    return split


def _is_result(message: Message, call: ToolCall) -> bool:
    return call.id is not None and message.tool_call_id == call.id


def with_short_ids(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with identifiers of nine letters and digits, which is all that Mistral's templates take."""
    return [_with_short_ids(message) for message in messages]


def _with_short_ids(message: Message) -> Message:
    calls = tuple(
        msgspec.structs.replace(call, id=_short(call.id or call.function.name)) for call in message.tool_calls
    )
    call_id = message.tool_call_id
    if message.role == "tool":
        call_id = _short(call_id or message.name or "")
    return msgspec.structs.replace(message, tool_calls=calls, tool_call_id=call_id)


def _short(call_id: str) -> str:
    if len(call_id) == _N_ID_CHARS and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.blake2s(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:_N_ID_CHARS]
