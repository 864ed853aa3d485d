"""Chat messages: what a conversation is made of, checked once on the way in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from localllm.errors import RequestError

Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True):
    """One text part of a message's content."""

    text: str
    type: Literal["text"] = "text"


class FunctionCall(msgspec.Struct, frozen=True):
    """Which function, and its arguments as JSON text."""

    name: str
    arguments: str = "{}"


class ToolCall(msgspec.Struct, frozen=True):
    """One call that the assistant made."""

    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation."""

    role: Role
    content: str | tuple[TextPart, ...] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
    """What the assistant thought before it answered."""

    @property
    def text(self) -> str:
        """The content as one string; parts are joined by line feeds."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n".join(part.text for part in self.content)


_FIELDS = frozenset(Message.__struct_fields__)
_MISSING = {
    "image_url": "no multimodal projector (mmproj) is loaded for images",
    "input_image": "no multimodal projector (mmproj) is loaded for images",
    "input_audio": "no multimodal projector (mmproj) is loaded for audio",
}
_PART_TYPES = {"input_text": "text", "output_text": "text"}


def parse_messages(messages: Sequence[Mapping[str, Any] | Message]) -> list[Message]:
    """Return `messages` checked and typed.

    Plain dicts follow OpenAI's shape. Keys with no meaning here are ignored; `reasoning_content` and
    `reasoning` mean the same; null stands for a key that is absent.

    Raises:
        RequestError: a message is malformed; the message names it, as in "messages[2].content[0].text".
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise RequestError("messages must be a list.", hint='Pass [{"role": "user", "content": "Hello"}].')
    if not messages:
        raise RequestError("messages is empty.", hint='Pass at least one, {"role": "user", "content": "Hello"}.')
    return [_parse_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _parse_message(message: Mapping[str, Any] | Message, where: str) -> Message:
    parsed = message if isinstance(message, Message) else _from_mapping(message, where)
    if parsed.content is None and parsed.role in ("system", "developer", "user"):
        raise RequestError(
            f"{where}.content: missing or null, which a {parsed.role} message may not have.",
            hint='Pass a string, or parts such as [{"type": "text", "text": "Hello"}].',
        )
    if parsed.tool_calls and parsed.role != "assistant":
        raise RequestError(
            f"{where}.tool_calls: a {parsed.role} message has none.", hint="Only the assistant calls tools."
        )
    return parsed


def _from_mapping(message: Mapping[str, Any], where: str) -> Message:
    if not isinstance(message, Mapping):
        raise RequestError(
            f"{where}: expected an object, got {type(message).__name__}.",
            hint='A message is {"role": ..., "content": ...}.',
        )
    fields = {key: value for key, value in message.items() if key in _FIELDS and value is not None}
    thought = message.get("reasoning_content")
    if thought is not None:
        fields.setdefault("reasoning", thought)
    if isinstance(fields.get("content"), list | tuple):
        fields["content"] = [_part(p, f"{where}.content[{i}]") for i, p in enumerate(fields["content"])]
    if isinstance(fields.get("tool_calls"), list | tuple):
        fields["tool_calls"] = [_tool_call(call) for call in fields["tool_calls"]]
    try:
        return msgspec.convert(fields, Message)
    except msgspec.ValidationError as error:
        raise RequestError(f"{where}{_located(error)}", hint="See the message shape of OpenAI's API.") from error


def _part(part: Any, where: str) -> Any:
    """Return a content part in one shape; bare strings and the Responses API's names are accepted."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping) or not isinstance(part.get("type", "text"), str):
        return part
    kind: str = part.get("type", "text")
    kind = _PART_TYPES.get(kind, kind)
    if kind != "text":
        raise RequestError(
            f"{where}.type: {kind!r} parts are not supported: {_MISSING.get(kind, 'only text is')}.",
            hint="This model reads text; pass text parts only.",
        )
    return {"type": kind, **{key: value for key, value in part.items() if key == "text"}}


def _tool_call(call: Any) -> Any:
    """Return a tool call whose arguments are JSON text, which some clients pass as an object."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = {key: value for key, value in call["function"].items() if value is not None}
    if isinstance(function.get("arguments"), Mapping):
        function["arguments"] = json.dumps(function["arguments"], ensure_ascii=False)
    return {**{key: value for key, value in call.items() if value is not None}, "function": function}


def _located(error: msgspec.ValidationError) -> str:
    """Turn "Expected `str`, got `int` - at `$.content`" into ".content: expected str, got int."."""
    text = str(error)
    found = re.search(r" - at `\$?(.*?)`$", text)
    path = found.group(1) if found else ""
    what = (text[: found.start()] if found else text).replace("`", "")
    return f"{path}: {what[:1].lower()}{what[1:]}."
