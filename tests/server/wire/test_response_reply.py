"""OpenAI's responses, from scripted events."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.engine.events import TokenLogprob
from localllm.errors import EngineClosed
from localllm.llm import Progress, ReasoningDelta, TextDelta, TokenChoice, ToolCallDelta
from localllm.server.errors import Problem
from localllm.server.wire.response_items import parse_items
from localllm.server.wire.response_reply import ResponseReply
from tests.server.official import done
from tests.server.wire.frames import events_of, streamed

READ = (Progress(0, 12, 0), Progress(12, 12, 4))
THOUGHT = (ReasoningDelta("H"), ReasoningDelta("m."))
SAID = (TextDelta("Hel"), TextDelta("lo"))
CALLED = (
    ToolCallDelta(0, "call_1", "weather", ""),
    ToolCallDelta(0, None, None, '{"city": '),
    ToolCallDelta(0, None, None, '"Paris"}'),
    ToolCallDelta(1, "call_2", "clock", "{}"),
)


def reply(**arguments: Any) -> ResponseReply:
    return ResponseReply("small", {"metadata": {"a": "b"}}, **arguments)


def names(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name.removeprefix("response.") for name, _ in events]


def test_events_of_a_text_come_in_openais_order() -> None:
    events = streamed(reply(), *READ, *SAID, done("Hello"))
    assert names(events) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [data["sequence_number"] for _, data in events] == list(range(10))
    assert all(data["type"] == name for name, data in events)
    assert [data["delta"] for name, data in events if name.endswith("text.delta")] == ["Hel", "lo"]
    ids = {data["item_id"] for _, data in events if "item_id" in data} | {events[2][1]["item"]["id"]}
    assert len(ids) == 1


def test_first_events_come_before_the_prompt_is_read() -> None:
    assert names(events_of(reply().accept(Progress(0, 12, 0)))) == ["created", "in_progress"]


def test_response_has_items_usage_and_what_was_asked() -> None:
    response = streamed(reply(), *READ, *THOUGHT, *SAID, *CALLED, done(reason="tool_calls", reasoning_tokens=2))[-1][1]
    output = response["response"].pop("output")
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in output[2:]] == [
        ("call_1", "weather", '{"city": "Paris"}'),
        ("call_2", "clock", "{}"),
    ]
    assert response["response"]["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 19,
    }
    assert (response["response"]["status"], response["response"]["metadata"]) == ("completed", {"a": "b"})


def test_calls_are_told_in_pieces_and_at_the_end_in_full() -> None:
    events = streamed(reply(), *READ, *CALLED, done(reason="tool_calls"))
    arguments = "function_call_arguments"
    assert names(events)[2:-1] == [
        "output_item.added", f"{arguments}.delta", f"{arguments}.delta", f"{arguments}.done", "output_item.done",
        "output_item.added", f"{arguments}.delta", f"{arguments}.done", "output_item.done",
    ]  # fmt: skip
    ends = [data for name, data in events if name.endswith("arguments.done")]
    assert [(end["output_index"], end["arguments"]) for end in ends] == [(0, '{"city": "Paris"}'), (1, "{}")]


@pytest.mark.parametrize(
    ("summarizes", "part", "delta", "place"),
    [
        (False, "content_part", "reasoning_text", "content_index"),
        (True, "reasoning_summary_part", "reasoning_summary_text", "summary_index"),
    ],
)
def test_reasoning_is_content_or_a_summary(summarizes: bool, part: str, delta: str, place: str) -> None:
    events = streamed(reply(summarizes=summarizes), *READ, *THOUGHT, *SAID, done("Hello"))
    assert names(events)[2:9] == [
        "output_item.added", f"{part}.added", f"{delta}.delta", f"{delta}.delta", f"{delta}.done", f"{part}.done",
        "output_item.done",
    ]  # fmt: skip
    assert events[4][1][place] == 0
    item = events[8][1]["item"]
    assert [p["text"] for p in item["summary" if summarizes else "content"]] == ["Hm."]
    assert item["content" if summarizes else "summary"] == []


def test_sealed_reasoning_can_be_sent_back() -> None:
    events = streamed(reply(seals_reasoning=True), *READ, *THOUGHT, done())
    item = events[-1][1]["response"]["output"][0]
    back = {"type": "reasoning", "summary": [], "encrypted_content": item["encrypted_content"]}
    assert parse_items([back], lambda _: None)[0]["encrypted_content"] == item["encrypted_content"]
    assert "Hm." not in item["encrypted_content"]


def test_answer_that_was_cut_off_is_incomplete() -> None:
    name, data = streamed(reply(), *READ, *SAID, done("Hello", "length"))[-1]
    response = data["response"]
    assert (name, response["status"]) == ("response.incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


def test_failure_ends_a_stream_with_the_response_and_its_error() -> None:
    ended: list[Any] = []
    made = reply(on_end=ended.append)
    made.accept(SAID[0])
    events = events_of(made.fail(Problem(500, "server_error", "worker_crashed", "It crashed.")))
    assert names(events)[-1] == "failed"
    response = events[-1][1]["response"]
    assert response["error"] == {"code": "server_error", "message": "It crashed."}
    assert response["output"][0]["content"][0]["text"] == "Hel"
    assert [response["status"] for response in ended] == ["failed"]


def test_failure_of_a_stream_that_has_not_begun_begins_it() -> None:
    assert names(events_of(reply().fail(Problem(400, "x", None, "No.")))) == ["created", "in_progress", "failed"]


def test_answer_of_a_model_that_was_unloaded_is_an_error() -> None:
    with pytest.raises(EngineClosed, match="unloaded"):
        reply().accept(done(reason="cancelled"))


def test_whole_response_is_what_the_stream_ends_with() -> None:
    ended: list[Any] = []
    made = reply(on_end=ended.append)
    last = streamed(made, *READ, *SAID, done("Hello"))[-1][1]["response"]
    assert made.body() == last == ended[0]


def test_logprobs_come_with_the_text() -> None:
    token = TokenLogprob(7, b"Hi", -0.5)
    events = streamed(reply(), *READ, TextDelta("Hi", logprobs=(TokenChoice(token, (token,)),)), done("Hi"))
    expected = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    logprobs = [{**expected, "top_logprobs": [expected]}]
    assert events[4][1]["logprobs"] == logprobs
    assert events[-1][1]["response"]["output"][0]["content"][0]["logprobs"] == logprobs
