"""The items of OpenAI's Responses API: what a conversation is made of there, as messages of a chat."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel
from localllm.server.wire.pieces import parse_piece

Item = dict[str, Any]
"""An item in full: with an id, and its content in parts."""
FindItem = Callable[[str], Item | None]

_SEAL = "localllm:"


class TextPart(WireModel):
    """A text."""

    text: str


class RefusalPart(WireModel):
    """Why an earlier answer was refused."""

    refusal: str


class MessageItem(WireModel):
    """Something that was said."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[dict[str, Any]]
    id: str | None = None


class CallItem(WireModel):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    id: str | None = None


class CallOutputItem(WireModel):
    """What a call gave."""

    call_id: str
    output: str | list[dict[str, Any]]
    id: str | None = None


class ReasoningItem(WireModel):
    """What the model thought in an earlier turn."""

    id: str | None = None
    summary: list[TextPart] | None = None
    content: list[TextPart] | None = None
    encrypted_content: str | None = None


class ReferenceItem(WireModel):
    """An item of an earlier response, by its id."""

    id: str


_PARTS: dict[str, type[WireModel]] = {
    "input_text": TextPart,
    "output_text": TextPart,
    "text": TextPart,
    "refusal": RefusalPart,
}
_MISSING_PARTS = {"input_image": "image", "input_audio": "audio", "input_file": "file", "image_url": "image"}
_ITEMS: dict[str, type[WireModel]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": CallOutputItem,
    "reasoning": ReasoningItem,
    "item_reference": ReferenceItem,
}
_MISSING_ITEMS = dict.fromkeys(
    [
        "file_search_call", "web_search_call", "computer_call", "computer_call_output", "image_generation_call",
        "code_interpreter_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "mcp_call",
    ],
    "hosted",
)  # fmt: skip


def new_id(prefix: str) -> str:
    """Return a fresh id."""
    return f"{prefix}_{uuid.uuid4().hex}"


def sealed(text: str) -> str:
    """Return reasoning in the form in which clients carry it without showing it; it is not secret here."""
    return _SEAL + base64.b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii")


def _unsealed(text: str) -> str:
    """Return what `sealed` made; "" for what another server has sealed."""
    if not text.startswith(_SEAL):
        return ""
    try:
        return base64.b64decode(text[len(_SEAL) :], validate=True).decode("utf-8", "surrogatepass")
    except ValueError:
        return ""


def parse_items(given: str | Sequence[Any] | None, find_item: FindItem) -> list[Item]:
    """Return a request's input as items in full.

    Args:
        given: a text, which is a message of the user's, or items.
        find_item: returns a kept item by its id.

    Raises:
        BadRequest: an item is malformed, or of a kind that cannot be honoured; the message names it.
    """
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_full(item, f"input.{index}", find_item) for index, item in enumerate(given)]


def _full(value: Any, at: str, find_item: FindItem) -> Item:
    match parse_piece(value, _ITEMS, at, missing=_MISSING_ITEMS, default="message"):
        case MessageItem() as item:
            return _full_message(item, at)
        case CallItem() as item:
            fields = {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
            return {"id": item.id or new_id("fc"), "type": "function_call", "status": "completed", **fields}
        case CallOutputItem() as item:
            _texts(item.output, f"{at}.output")
            output: Item = {"call_id": item.call_id, "output": item.output}
            return {"id": item.id or new_id("fco"), "type": "function_call_output", "status": "completed", **output}
        case ReasoningItem() as item:
            return _full_reasoning(item)
        case ReferenceItem(id=item_id):
            found = find_item(item_id)
            if found is None:
                raise BadRequest(
                    f"{at}: the item {item_id[:80]!r} is not kept here.", param=at, hint="Send it in full."
                )
            return found
    raise AssertionError("unreachable")


def _full_message(item: MessageItem, at: str) -> Item:
    kind = "output_text" if item.role == "assistant" else "input_text"
    texts = _texts(item.content, f"{at}.content")
    more: Item = {"annotations": []} if item.role == "assistant" else {}
    content = [{"type": kind, "text": text, **more} for text in texts]
    return {
        "id": item.id or new_id("msg"),
        "type": "message",
        "status": "completed",
        "role": item.role,
        "content": content,
    }


def _full_reasoning(item: ReasoningItem) -> Item:
    full: Item = {
        "id": item.id or new_id("rs"),
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": part.text} for part in item.summary or []],
        "content": [{"type": "reasoning_text", "text": part.text} for part in item.content or []],
    }
    return full if item.encrypted_content is None else {**full, "encrypted_content": item.encrypted_content}


def _texts(content: str | list[dict[str, Any]], at: str) -> list[str]:
    if isinstance(content, str):
        return [content]
    pieces = [parse_piece(part, _PARTS, f"{at}.{i}", missing=_MISSING_PARTS) for i, part in enumerate(content)]
    return [piece.refusal if isinstance(piece, RefusalPart) else getattr(piece, "text", "") for piece in pieces]


def chat_messages(instructions: str | None, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return items in full in the shape of OpenAI's chat, after the instructions.

    What the model thought, said and called in one turn is one message there.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        match item["type"]:
            case "message" if item["role"] == "assistant":
                turn = _turn(messages, fills="content")
                turn["content"] = [{"type": "text", "text": part["text"]} for part in item["content"]]
            case "message":
                parts = [{"type": "text", "text": part["text"]} for part in item["content"]]
                messages.append({"role": item["role"], "content": parts})
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                call = {"id": item["call_id"], "type": "function", "function": function}
                _turn(messages).setdefault("tool_calls", []).append(call)
            case "function_call_output":
                text = "\n".join(_texts(item["output"], "output"))
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": text})
            case "reasoning" if thought := _thought(item):
                _turn(messages, fills="reasoning")["reasoning"] = thought
    return messages


def _thought(item: Mapping[str, Any]) -> str:
    parts = item["content"] or item["summary"]
    return "\n".join(part["text"] for part in parts) or _unsealed(item.get("encrypted_content") or "")


_ORDER = ("reasoning", "content", "tool_calls")


def _turn(messages: list[dict[str, Any]], fills: str = "tool_calls") -> dict[str, Any]:
    """Return the assistant's message that the next piece belongs to: the last, if it ends before such a piece.

    A second text, or a thought after a text, begins another message.
    """
    begun = _ORDER[_ORDER.index(fills) :] if fills != "tool_calls" else ()
    last = messages[-1] if messages else {}
    if last.get("role") != "assistant" or any(last.get(name) for name in begun):
        messages.append({"role": "assistant", "content": None if fills == "tool_calls" else ""})
    return messages[-1]
