"""Anthropic's content blocks, as messages of a chat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel
from localllm.server.wire.pieces import MISSING, parse_piece

Blocks = str | list[dict[str, Any]]


class TextBlock(WireModel):
    """A text."""

    text: str


class DocumentSource(WireModel):
    """Where a document is; only its text can be read."""

    type: str
    data: str | None = None
    content: Blocks | None = None


class DocumentBlock(WireModel):
    """A text with a title."""

    source: DocumentSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(WireModel):
    """What a search of the client's has found."""

    source: str
    title: str
    content: list[dict[str, Any]]


class ThinkingBlock(WireModel):
    """What the model thought in an earlier turn."""

    thinking: str


class RedactedThinkingBlock(WireModel):
    """The same, in a form that only Anthropic can read; there is nothing in it for another model."""


class ToolUseBlock(WireModel):
    """A call of an earlier turn."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(WireModel):
    """What a call gave."""

    tool_use_id: str
    content: Blocks | None = None
    is_error: bool | None = None


_TEXTS: dict[str, type[WireModel]] = {
    "text": TextBlock,
    "document": DocumentBlock,
    "search_result": SearchResultBlock,
}
_OF_USER: dict[str, type[WireModel]] = {**_TEXTS, "tool_result": ToolResultBlock}
_OF_ASSISTANT: dict[str, type[WireModel]] = {
    "text": TextBlock,
    "thinking": ThinkingBlock,
    "redacted_thinking": RedactedThinkingBlock,
    "tool_use": ToolUseBlock,
}
_MISSING = {
    "image": "image",
    "container_upload": "hosted",
    "server_tool_use": "hosted",
    "web_search_tool_result": "hosted",
    "web_fetch_tool_result": "hosted",
    "code_execution_tool_result": "hosted",
    "bash_code_execution_tool_result": "hosted",
    "text_editor_code_execution_tool_result": "hosted",
    "tool_search_tool_result": "hosted",
    "tool_reference": "hosted",
}


class InputMessage(WireModel):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Blocks


def chat_messages(messages: Sequence[InputMessage]) -> list[dict[str, Any]]:
    """Return the turns in the shape of OpenAI's chat.

    Raises:
        BadRequest: a block is malformed, or of a kind that cannot be honoured; the message names it.
    """
    turns: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        at = f"messages.{index}.content"
        if isinstance(message.content, str):
            turns.append({"role": message.role, "content": message.content})
        elif message.role == "user":
            turns += _user_turns(message.content, at)
        elif message.role == "assistant":
            turns.append(_assistant_turn(message.content, at))
        else:
            turns.append({"role": "system", "content": text_parts(message.content, at)})
    return turns


def text_parts(blocks: Blocks, at: str) -> list[dict[str, str]]:
    """Return blocks of text as parts of a message.

    Raises:
        BadRequest: one of them is something else.
    """
    if isinstance(blocks, str):
        return [{"type": "text", "text": blocks}]
    pieces = [parse_piece(block, _TEXTS, f"{at}.{i}", missing=_MISSING) for i, block in enumerate(blocks)]
    return [{"type": "text", "text": _text_of(piece, f"{at}.{i}")} for i, piece in enumerate(pieces)]


def _user_turns(blocks: Sequence[Mapping[str, Any]], at: str) -> list[dict[str, Any]]:
    """Return the results of tools, each a message of its own, and then what the user says."""
    results, parts = [], []
    for index, block in enumerate(blocks):
        where = f"{at}.{index}"
        piece = parse_piece(block, _OF_USER, where, missing=_MISSING)
        if isinstance(piece, ToolResultBlock):
            results.append(_result_turn(piece, where))
        else:
            parts.append({"type": "text", "text": _text_of(piece, where)})
    return [*results, {"role": "user", "content": parts}] if parts or not results else results


def _result_turn(block: ToolResultBlock, at: str) -> dict[str, Any]:
    text = _joined(block.content or "", f"{at}.content")
    if block.is_error and "error" not in text[:40].lower():
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": text}


def _assistant_turn(blocks: Sequence[Mapping[str, Any]], at: str) -> dict[str, Any]:
    parts: list[dict[str, str]] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(blocks):
        match parse_piece(block, _OF_ASSISTANT, f"{at}.{index}", missing=_MISSING):
            case TextBlock(text=text):
                parts.append({"type": "text", "text": text})
            case ThinkingBlock(thinking=thinking) if thinking:
                thoughts.append(thinking)
            case ToolUseBlock() as call:
                function = {"name": call.name, "arguments": json.dumps(call.input, ensure_ascii=False)}
                calls.append({"id": call.id, "type": "function", "function": function})
    turn: dict[str, Any] = {"role": "assistant", "content": parts or (None if calls else "")}
    if thoughts:
        turn["reasoning"] = "\n".join(thoughts)
    return {**turn, "tool_calls": calls} if calls else turn


def _text_of(piece: WireModel, at: str) -> str:
    match piece:
        case TextBlock(text=text):
            return text
        case SearchResultBlock():
            return f"{piece.title} ({piece.source})\n{_joined(piece.content, f'{at}.content')}"
        case DocumentBlock():
            return "\n".join(filter(None, [piece.title, piece.context, _document(piece.source, f"{at}.source")]))
    raise AssertionError(f"{piece} is no text")


def _document(source: DocumentSource, at: str) -> str:
    if source.type == "text" and source.data is not None:
        return source.data
    if source.type == "content" and source.content is not None:
        return _joined(source.content, f"{at}.content")
    raise BadRequest(f"{at}.type: {source.type[:80]!r} is not supported.", param=f"{at}.type", hint=MISSING["file"])


def _joined(blocks: Blocks, at: str) -> str:
    return "\n".join(part["text"] for part in text_parts(blocks, at))
