"""Anthropic's answers, from scripted events."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.errors import EngineClosed
from localllm.llm import ChatEvent, Progress, ReasoningDelta, TextDelta, ToolCallDelta
from localllm.server.errors import Problem
from localllm.server.wire.message_reply import SIGNATURE, MessageReply
from tests.server.official import done
from tests.server.wire.frames import events_of, streamed

USAGE = {
    "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 7,
}  # fmt: skip
READ = (Progress(0, 12, 0), Progress(12, 12, 4))
CALLS = (
    ToolCallDelta(0, "call_1", "weather", ""),
    ToolCallDelta(0, None, None, '{"city": '),
    ToolCallDelta(0, None, None, '"Paris"}'),
    ToolCallDelta(1, "call_2", "clock", "{}"),
)


def reply(*, thinks: bool = True, shows_thinking: bool = True) -> MessageReply:
    return MessageReply("small", thinks=thinks, shows_thinking=shows_thinking)


def body(made: MessageReply, *events: ChatEvent) -> dict[str, Any]:
    for event in events:
        made.accept(event)
    return dict(made.body())


def test_events_of_a_text_come_in_anthropics_order() -> None:
    events = streamed(reply(), *READ, TextDelta("Hel"), TextDelta("lo"), done("Hello"))
    start = events[0][1]["message"]
    assert (start["role"], start["content"], start["stop_reason"]) == ("assistant", [], None)
    assert start["usage"] == {**USAGE, "output_tokens": 0}
    assert events[1:] == [
        ("content_block_start", {"type": "content_block_start", "index": 0,
                                 "content_block": {"type": "text", "text": "", "citations": None}}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0,
                                 "delta": {"type": "text_delta", "text": "Hel"}}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0,
                                 "delta": {"type": "text_delta", "text": "lo"}}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta",
                           "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE}),
        ("message_stop", {"type": "message_stop"}),
    ]  # fmt: skip


def test_message_starts_when_it_is_known_what_was_cached() -> None:
    made = reply()
    assert made.accept(Progress(0, 12, 0)) == b""
    assert events_of(made.accept(Progress(6, 12, 4)))[0][0] == "message_start"
    assert made.accept(Progress(12, 12, 4)) == b""


def test_thinking_is_a_block_with_a_signature_before_the_text() -> None:
    events = streamed(reply(), *READ, ReasoningDelta("Hm."), TextDelta("Yes."), done("Yes."))
    assert [(name, data.get("index"), data.get("delta", {}).get("type")) for name, data in events[1:-2]] == [
        ("content_block_start", 0, None),
        ("content_block_delta", 0, "thinking_delta"),
        ("content_block_delta", 0, "signature_delta"),
        ("content_block_stop", 0, None),
        ("content_block_start", 1, None),
        ("content_block_delta", 1, "text_delta"),
        ("content_block_stop", 1, None),
    ]


def test_calls_are_blocks_whose_input_comes_in_pieces() -> None:
    events = streamed(reply(), *READ, TextDelta("See:"), *CALLS, done(reason="tool_calls"))
    starts = [data["content_block"] for name, data in events if name == "content_block_start"]
    assert starts[1:] == [
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
        {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
    ]
    pieces = [(d["index"], d["delta"]["partial_json"]) for _, d in events if "partial_json" in d.get("delta", {})]
    assert pieces == [(1, '{"city": '), (1, '"Paris"}'), (2, "{}")]
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"


def test_whole_message_has_the_blocks_of_the_stream() -> None:
    call = ToolCall(FunctionCall("weather", '{"city": "Paris"}'), "call_1")
    events = (*READ, ReasoningDelta("Hm."), TextDelta("See:"), *CALLS)
    message = body(reply(), *events, done("See:", "tool_calls", tool_calls=(call,), reasoning_tokens=2))
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE},
        {"type": "text", "text": "See:", "citations": None},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}},
        {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
    ]
    assert message["usage"] == {**USAGE, "output_tokens_details": {"thinking_tokens": 2}}
    assert (message["type"], message["stop_reason"]) == ("message", "tool_use")


@pytest.mark.parametrize("arguments", ['{"city": "Par', '{"city":', "", "nonsense"])
def test_call_that_was_cut_off_has_the_input_that_is_there(arguments: str) -> None:
    message = body(reply(), *READ, ToolCallDelta(0, "call_1", "weather", arguments), done(reason="length"))
    assert message["content"][0]["input"] in ({}, {"city": "Par"})
    assert message["stop_reason"] == "max_tokens"


def test_thinking_that_nobody_asked_for_is_left_out() -> None:
    events = (*READ, ReasoningDelta("Hm."), TextDelta("Yes."), done("Yes."))
    assert body(reply(thinks=False), *events)["content"] == [{"type": "text", "text": "Yes.", "citations": None}]


def test_thinking_that_is_not_to_be_shown_has_only_a_signature() -> None:
    events = (*READ, ReasoningDelta("Hm."), TextDelta("Yes."), done("Yes."))
    assert "Hm." not in str(streamed(reply(shows_thinking=False), *events))
    first = body(reply(shows_thinking=False), *events)["content"][0]
    assert first == {"type": "thinking", "thinking": "", "signature": SIGNATURE}


@pytest.mark.parametrize(
    ("end", "reason", "sequence"),
    [
        (done(), "end_turn", None),
        (done(cause="stop_string", stop_text="END"), "stop_sequence", "END"),
        (done(reason="length", cause="max_tokens"), "max_tokens", None),
        (done(reason="length", cause="context_full"), "model_context_window_exceeded", None),
        (done(reason="tool_calls", cause="eos"), "tool_use", None),
    ],
)
def test_stop_reason_names_what_ended_the_message(end: Any, reason: str, sequence: str | None) -> None:
    message = body(reply(), *READ, TextDelta("x"), end)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_empty_answer_is_a_message_without_blocks() -> None:
    events = streamed(reply(), *READ, done())
    assert [name for name, _ in events] == ["message_start", "message_delta", "message_stop"]


def test_answer_of_a_model_that_was_unloaded_is_an_error() -> None:
    with pytest.raises(EngineClosed, match="unloaded"):
        body(reply(), *READ, done(reason="cancelled"))


def test_error_in_a_stream_is_an_event_of_anthropics_shape() -> None:
    problem = Problem(503, "server_error", "model_unloaded", "It went away.")
    assert events_of(reply().fail(problem)) == [
        ("error", {"type": "error", "error": {"type": "overloaded_error", "message": "It went away."}})
    ]
