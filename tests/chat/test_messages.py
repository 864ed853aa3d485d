from __future__ import annotations

from typing import Any

import pytest

from localllm.chat.messages import Message, TextPart, parse_messages
from localllm.errors import RequestError


def test_every_role_and_content_shape_is_read() -> None:
    parsed = parse_messages(
        [
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
            {"role": "assistant", "content": None, "refusal": None, "reasoning_content": "hm"},
            {"role": "tool", "content": "4", "tool_call_id": None},
            Message(role="user", content="u"),
        ]
    )
    assert [message.text for message in parsed] == ["d", "a\nb", "", "4", "u"]
    assert parsed[1].content == (TextPart("a"), TextPart("b"))
    assert parsed[2].reasoning == "hm"


def test_tool_call_arguments_become_json_text() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": "é"}}}
    (parsed,) = parse_messages([{"role": "assistant", "tool_calls": [call]}])
    assert parsed.tool_calls[0].function.arguments == '{"x": "é"}'


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"role": "wizard", "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1]: object missing required field role"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages[1].content[0].text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
            "messages[1].content[0].type",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": 3}}]},
            "messages[1].tool_calls[0].function",
        ),
        (
            {"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]},
            "messages[1].tool_calls",
        ),
        ("hello", "messages[1]"),
    ],
)
def test_malformed_message_is_named_by_index_and_field(message: Any, where: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_messages([{"role": "user", "content": "ok"}, message])
    assert where in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("messages", [[], "hello", {"role": "user", "content": "x"}, None])
def test_anything_but_a_filled_list_is_refused(messages: Any) -> None:
    with pytest.raises(RequestError):
        parse_messages(messages)
