"""Fitting a conversation to what a chat template can show.

A template says nowhere what it supports, so it is asked: it renders a small conversation, and what it made of
a word in it is the answer. Each question is asked once, and only when a conversation needs the answer. The
method is that of llama.cpp's minja.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from localllm.chat.call_history import one_call_each, with_names, with_short_ids
from localllm.chat.messages import Message, ToolCall
from localllm.chat.sandbox.meter import OutOfBounds
from localllm.errors import TemplateError

Render = Callable[[list[dict[str, Any]], list[Any] | None], str]
"""Renders message dicts and tools; raises TemplateError."""

_NEEDLE = "zqneedle"
_BETWEEN = "\n\n"
_CALL_ID = "call12345"
"""Mistral's templates insist on identifiers of nine characters."""


def _user(content: Any = "Hi.") -> dict[str, Any]:
    return {"role": "user", "content": content}


def _call(arguments: Any, content: Any = "") -> dict[str, Any]:
    function = {"name": "fn", "arguments": arguments}
    call = {"id": _CALL_ID, "type": "function", "function": function}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


class Capabilities:
    """What a template can show, found out by asking it."""

    def __init__(self, render: Render) -> None:
        self._render = render

    def _ask(self, *messages: dict[str, Any], tools: list[Any] | None = None) -> str:
        try:
            return self._render(list(messages), tools)
        except TemplateError as error:
            # A template that ran for too long once would do so for every question.
            if isinstance(error.__cause__, OutOfBounds):
                raise
            return ""

    @functools.cached_property
    def system(self) -> bool:
        """Whether a system message comes out; Gemma's templates refuse it."""
        return _NEEDLE in self._ask({"role": "system", "content": self._content(_NEEDLE)}, self._hi)

    @functools.cached_property
    def late_system(self) -> bool:
        """Whether a system message that is not the first comes out."""
        answer = {"role": "assistant", "content": self._content("Hello.")}
        late = {"role": "system", "content": self._content(_NEEDLE)}
        return _NEEDLE in self._ask(self._hi, answer, late, self._hi)

    @functools.cached_property
    def repeated_roles(self) -> bool:
        """Whether two messages of one role may follow each other."""
        return _NEEDLE in self._ask(self._hi, _user(self._content(_NEEDLE)))

    @functools.cached_property
    def parts_only(self) -> bool:
        """Whether content must be a list of parts."""
        as_text = self._ask(_user(_NEEDLE))
        return _NEEDLE not in as_text and _NEEDLE in self._ask(_user([{"type": "text", "text": _NEEDLE}]))

    @functools.cached_property
    def null_content(self) -> bool:
        """Whether a tool call may come without content, and not be shown as "None"."""
        shown = self._ask(self._hi, _call({} if self.object_arguments else "{}", None))
        return bool(shown) and "None" not in shown

    @functools.cached_property
    def object_arguments(self) -> bool:
        """Whether the arguments of a tool call are wanted as an object, and not as JSON text."""
        shown = self._ask(self._hi, _call({_NEEDLE: "v"}))
        return _NEEDLE in shown and f"'{_NEEDLE}'" not in shown

    @functools.cached_property
    def tools(self) -> bool:
        """Whether the descriptions of tools come out."""
        parameters = {"type": "object", "properties": {}}
        function = {"name": _NEEDLE, "description": "d", "parameters": parameters}
        return _NEEDLE in self._ask(self._hi, tools=[{"type": "function", "function": function}])

    @functools.cached_property
    def calls(self) -> bool:
        """Whether calls of tools come out, and their results."""
        result = {"role": "tool", "content": self._content(_NEEDLE), "tool_call_id": _CALL_ID, "name": "fn"}
        shown = self._ask(self._hi, self._some_calls(f"{_NEEDLE}fn"), result)
        return f"{_NEEDLE}fn" in shown and _NEEDLE in shown.replace(f"{_NEEDLE}fn", "")

    @functools.cached_property
    def several_calls(self) -> bool:
        """Whether one message may have more calls than one."""
        return _NEEDLE in self._ask(self._hi, self._some_calls("fn", _NEEDLE))

    @functools.cached_property
    def any_call_id(self) -> bool:
        """Whether calls may be identified by any text."""
        call = self._some_calls("fn", call_id="call_0123456789-abcdef")
        return bool(self._ask(self._hi, call)) or not self._ask(self._hi, self._some_calls("fn"))

    @functools.cached_property
    def reasoning_key(self) -> str:
        """What the template calls the reasoning in a message."""
        for key in ("reasoning_content", "thinking", "reasoning"):
            if _NEEDLE in self._ask(self._hi, {**self._some_calls("fn"), key: _NEEDLE}):
                return key
        return "reasoning_content"

    def _some_calls(self, *names: str, call_id: str = _CALL_ID) -> dict[str, Any]:
        call = _call({} if self.object_arguments else "{}", None if self.null_content else "")
        function = call["tool_calls"][0]["function"]
        calls = [{"id": call_id, "type": "function", "function": {**function, "name": name}} for name in names]
        return {**call, "tool_calls": calls}

    @property
    def _hi(self) -> dict[str, Any]:
        return _user(self._content("Hi."))

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts_only else text


def adapt(messages: Sequence[Message], can: Capabilities) -> list[dict[str, Any]]:
    """Return the messages as a template takes them, losing none of their text.

    Developer messages become system messages; a system message that the template cannot show becomes the
    beginning of the user message after it; messages of one role in a row are joined where none may repeat.
    """
    fitted = [
        msgspec.structs.replace(message, role="system") if message.role == "developer" else message
        for message in messages
    ]
    if any(message.role == "system" for message in fitted[1:]) and not can.late_system:
        n_leading = next((i for i, message in enumerate(fitted) if message.role != "system"), len(fitted))
        fitted = _joined(fitted[:n_leading]) + [_as_user(message) for message in fitted[n_leading:]]
    if fitted[0].role == "system" and not can.system:
        fitted = [_as_user(fitted[0]), *fitted[1:]]
    if _has_repeats(fitted) and not can.repeated_roles:
        fitted = _joined(fitted)
    if any(message.tool_calls or message.role == "tool" for message in fitted):
        fitted = _fitted_calls(fitted, can)
    return [_as_dict(message, can) for message in fitted]


def _fitted_calls(messages: Sequence[Message], can: Capabilities) -> list[Message]:
    fitted = with_names(messages)
    if any(len(message.tool_calls) > 1 for message in fitted) and not can.several_calls:
        fitted = one_call_each(fitted)
    return fitted if can.any_call_id else with_short_ids(fitted)


def _as_user(message: Message) -> Message:
    return msgspec.structs.replace(message, role="user") if message.role == "system" else message


def _repeats(first: Message, second: Message) -> bool:
    return first.role == second.role != "tool" and not first.tool_calls and not second.tool_calls


def _has_repeats(messages: Sequence[Message]) -> bool:
    return any(map(_repeats, messages, messages[1:]))


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with those of one role in a row made one."""
    joined: list[Message] = []
    for message in messages:
        if joined and _repeats(joined[-1], message):
            text = _BETWEEN.join(part for part in (joined[-1].text, message.text) if part)
            joined[-1] = msgspec.structs.replace(joined[-1], content=text)
        else:
            joined.append(message)
    return joined


def _as_dict(message: Message, can: Capabilities) -> dict[str, Any]:
    """Return what templates read: a key is there only if it has a value."""
    content: Any = message.text
    if message.content is None and message.tool_calls and can.null_content:
        content = None
    elif can.parts_only:
        content = [{"type": "text", "text": content}]
    fields: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        fields["tool_calls"] = [_call_dict(call, can) for call in message.tool_calls]
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    # gpt-oss takes either the thoughts or the words before a call.
    if message.reasoning and not (message.tool_calls and content and can.reasoning_key == "thinking"):
        fields[can.reasoning_key] = message.reasoning
    return fields


def _call_dict(call: ToolCall, can: Capabilities) -> dict[str, Any]:
    arguments: Any = call.function.arguments
    if can.object_arguments:
        try:
            arguments = json.loads(arguments)
        except ValueError:
            # A model's own call, cut off or malformed: the template shows it as the text that it is.
            arguments = call.function.arguments
    fields: dict[str, Any] = {
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
    return fields if call.id is None else {"id": call.id, **fields}
