"""A conversation with tools, for templates that cannot show them: calls and results become text."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from localllm.chat.formats.base import Format
from localllm.chat.formats.tools import Toolbox
from localllm.chat.messages import Message

_BETWEEN = "\n\n"


def tell_of_tools(messages: Sequence[Message], toolbox: Toolbox, style: Format) -> list[Message]:
    """Return the messages with the tools described at the end of the first system message."""
    text = style.describe_tools(toolbox)
    first = messages[0]
    if first.role not in ("system", "developer"):
        return [Message(role="system", content=text), *messages]
    return [msgspec.structs.replace(first, content=f"{first.text}{_BETWEEN}{text}"), *messages[1:]]


def written_out(messages: Sequence[Message], style: Format) -> list[Message]:
    """Return the messages with calls as the model writes them, and each result in a user's message."""
    return [_written_out(message, style) for message in messages]


def _written_out(message: Message, style: Format) -> Message:
    if message.tool_calls:
        calls = style.write_calls(message.tool_calls)
        text = f"{message.text}\n{calls}" if message.text else calls
        return msgspec.structs.replace(message, content=text, tool_calls=())
    if message.role == "tool":
        return Message(role="user", content=style.write_result(message))
    return message
