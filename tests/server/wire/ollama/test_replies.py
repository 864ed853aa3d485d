"""Events to Ollama's lines of JSON."""

from __future__ import annotations

import json
from datetime import datetime

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.llm.events import Progress, ReasoningDelta, TextDelta, ToolCallDelta
from localllm.server.errors import Problem
from localllm.server.wire.ollama.history import unpack
from localllm.server.wire.ollama.replies import ChatReply, GenerateReply, Stopwatch, ollama_calls
from tests.server.events import choice, done, lines, whole

CALL = ToolCall(FunctionCall("get_weather", '{"city": "Tokyo"}'), id="call_1")


def chat_reply(*, wants_logprobs: bool = False) -> ChatReply:
    return ChatReply("m", Stopwatch(), wants_logprobs=wants_logprobs)


def generate_reply(conversation: list[dict[str, str]] | None = None) -> GenerateReply:
    return GenerateReply("m", Stopwatch(), wants_logprobs=False, conversation=conversation)


def test_a_chat_streams_pieces_and_an_end() -> None:
    found = lines(chat_reply(), [Progress(0, 10, 0), TextDelta("Hel"), TextDelta("lo"), done("Hello")])
    assert [line["message"] for line in found] == [
        {"role": "assistant", "content": "Hel"},
        {"role": "assistant", "content": "lo"},
        {"role": "assistant", "content": ""},
    ]
    assert [line["done"] for line in found] == [False, False, True]
    assert all(line["model"] == "m" and datetime.fromisoformat(line["created_at"]) for line in found)
    assert "done_reason" not in found[0] and "eval_count" not in found[0]


def test_the_end_has_counts_and_nanoseconds() -> None:
    end = lines(chat_reply(), [done("Hello")])[-1]
    assert (end["prompt_eval_count"], end["eval_count"]) == (10, 7)
    assert (end["prompt_eval_duration"], end["eval_duration"]) == (250_000_000, 500_000_000)
    assert isinstance(end["total_duration"], int) and 0 <= end["load_duration"] <= end["total_duration"]


def test_reasons_are_ollamas() -> None:
    reasons = [
        lines(chat_reply(), [done(finish_reason=r)])[-1]["done_reason"] for r in ("stop", "length", "tool_calls")
    ]
    assert reasons == ["stop", "length", "stop"]


def test_thoughts_are_apart_from_the_answer() -> None:
    events = [ReasoningDelta("Hm."), TextDelta("Yes."), done("Yes.", reasoning="Hm.")]
    found = lines(chat_reply(), events)
    assert found[0]["message"] == {"role": "assistant", "content": "", "thinking": "Hm."}
    assert found[1]["message"] == {"role": "assistant", "content": "Yes."}
    message = whole(chat_reply(), events)["message"]
    assert message == {"role": "assistant", "content": "Yes.", "thinking": "Hm."}


def test_a_call_comes_in_one_piece_with_its_arguments_as_an_object() -> None:
    events = [
        ToolCallDelta(0, "call_1", "get_weather", '{"city": '),
        ToolCallDelta(0, None, None, '"Tokyo"}'),
        done(finish_reason="tool_calls", tool_calls=(CALL,)),
    ]
    found = lines(chat_reply(), events)
    function = {"index": 0, "name": "get_weather", "arguments": {"city": "Tokyo"}}
    assert found[0]["message"]["tool_calls"] == [{"id": "call_1", "function": function}]
    assert not found[0]["done"] and found[1]["done"] and "tool_calls" not in found[1]["message"]
    assert whole(chat_reply(), events)["message"]["tool_calls"] == found[0]["message"]["tool_calls"]


def test_a_call_that_was_cut_short_is_left_out() -> None:
    cut = ToolCall(FunctionCall("g", '{"a": "unfin'))
    assert [call["function"]["name"] for call in ollama_calls([cut, CALL])] == ["get_weather"]
    assert ollama_calls([ToolCall(FunctionCall("h", ""))]) == [{"function": {"index": 0, "name": "h", "arguments": {}}}]


def test_a_whole_chat_is_one_object() -> None:
    body = whole(chat_reply(), [TextDelta("Hello"), done("Hello")])
    assert body["message"] == {"role": "assistant", "content": "Hello"}
    assert body["done"] is True and body["done_reason"] == "stop" and body["eval_count"] == 7


def test_logprobs_are_beside_their_piece() -> None:
    events = [TextDelta("Hi", logprobs=(choice("H", 1, "h"), choice("i"))), done("Hi")]
    first, end = lines(chat_reply(wants_logprobs=True), events)
    assert [entry["token"] for entry in first["logprobs"]] == ["H", "i"]
    assert [top["token"] for top in first["logprobs"][0]["top_logprobs"]] == ["H", "h"]
    assert first["logprobs"][0]["bytes"] == [72] and "logprobs" not in end
    assert len(whole(chat_reply(wants_logprobs=True), events)["logprobs"]) == 2
    assert "logprobs" not in whole(chat_reply(), events)


def test_generate_says_response_and_gives_a_context_to_go_on_from() -> None:
    asked = [{"role": "user", "content": "Hi"}]
    found = lines(generate_reply(asked), [TextDelta("Hello"), done("Hello")])
    assert [line["response"] for line in found] == ["Hello", ""]
    assert "message" not in found[0] and "context" not in found[0]
    assert unpack(found[1]["context"]) == [*asked, {"role": "assistant", "content": "Hello"}]
    assert whole(generate_reply(asked), [done("Hello")])["response"] == "Hello"
    assert "context" not in whole(generate_reply(), [done("Hello")])


def test_an_error_in_a_stream_is_a_line() -> None:
    problem = Problem(500, "server_error", "worker_crashed", "The worker ended.")
    assert json.loads(chat_reply().fail(problem)) == {"error": "The worker ended."}
