"""Lines at the head of a system prompt that change from call to call, and would make every prompt a new one.

The prefix cache reuses what two prompts share from their first token on, so one such line at the beginning costs the
whole prompt, at every call. Two kinds are known:

- headers that an agent sends along as text, such as Claude Code's `x-anthropic-billing-header: …`: they tell the model
  nothing, and are left out;
- a first line with the time of day or with a random id: it may matter to the model, and moves to the last question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_HEADERS = re.compile(r"(?:x-[a-z0-9]+(?:-[a-z0-9]+)+:[^\n]*(?:\n+|\Z))+", re.IGNORECASE)
_STAMP = re.compile(
    r"\b\d{1,2}:\d\d:\d\d\b"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d"
    r"|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b",
    re.IGNORECASE,
)
_MAX_LINE_CHARS = 200
_SYSTEM_ROLES = ("system", "developer")


def steady(messages: Sequence[Any]) -> list[Any]:
    """Return a conversation whose beginning is the same at every call.

    Args:
        messages: in the shape of OpenAI's chat; what is malformed is passed on as it is.
    """
    n_head = next((i for i, message in enumerate(messages) if not _is_system(message)), len(messages))
    head = [kept for message in messages[:n_head] if (kept := _without_headers(message)) is not None]
    rest = list(messages[n_head:])
    last = next((i for i in reversed(range(len(rest))) if _is_question(rest[i])), None)
    if head and last is not None:
        head[0], line = _without_stamp(head[0])
        rest[last] = _after(line, rest[last])
    return [*head, *rest] if head or rest else list(messages)


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") in _SYSTEM_ROLES


def _is_question(message: Any) -> bool:
    return (
        isinstance(message, Mapping)
        and message.get("role") == "user"
        and isinstance(message.get("content"), str | list)
        and bool(message["content"])
    )


def _without_headers(message: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a system message without header lines at the head of its text, or of a part; None if that was all."""
    content = message.get("content")
    if isinstance(content, str):
        text = _stripped(content)
        return None if content and not text else {**message, "content": text}
    if not isinstance(content, list):
        return message
    parts = [{**part, "text": _stripped(part["text"])} if _is_text(part) else part for part in content]
    kept = [part for part in parts if not (_is_text(part) and not part["text"])]
    return None if content and not kept else {**message, "content": kept}


def _stripped(text: str) -> str:
    found = _HEADERS.match(text)
    return text[found.end() :] if found else text


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def _without_stamp(message: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """Return a system message, and the line that was taken from its head; "" for none."""
    content = message.get("content")
    if isinstance(content, str):
        line, rest = _split(content)
        return ({**message, "content": rest}, line) if line else (message, "")
    if not isinstance(content, list) or not content or not _is_text(content[0]):
        return message, ""
    first, *others = content
    line, rest = _split(first["text"], has_more=bool(others))
    if not line:
        return message, ""
    return {**message, "content": [{**first, "text": rest}, *others] if rest else others}, line


def _split(text: str, *, has_more: bool = False) -> tuple[str, str]:
    """Return the first line if it changes from call to call, and what follows it; a text of one line stays whole."""
    line, _, rest = text.partition("\n")
    rest = rest.lstrip("\n")
    changes = len(line) <= _MAX_LINE_CHARS and _STAMP.search(line) is not None
    return (line, rest) if changes and (rest.strip() or has_more) else ("", text)


def _after(line: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not line:
        return message
    content = message["content"]
    moved: Any = f"{line}\n\n{content}" if isinstance(content, str) else [{"type": "text", "text": line}, *content]
    return {**message, "content": moved}
