"""Anthropic's Messages API through its official client: with scripted events, and with the real demo model."""

from __future__ import annotations

import uuid
from typing import Any

import anthropic
import httpx
import pytest

from localllm.errors import ContextLengthExceeded, WorkerCrashed
from localllm.llm import LLM, Progress, ReasoningDelta, TextDelta, ToolCallDelta
from tests.scripted_backend import Script, ScriptedBackend
from tests.server.official import Scripted, done, real_url, scripted, served_by

__all__ = ["real_url", "scripted"]

HI: Any = [{"role": "user", "content": "Say hi."}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
READ = (Progress(0, 12, 0), Progress(12, 12, 4))


def client(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


def test_client_gets_a_whole_message(scripted: Scripted) -> None:
    scripted.llm.script = [*READ, TextDelta("Hi!"), done("Hi!")]
    message = client(scripted.url).messages.create(model="claude-small", max_tokens=9, messages=HI)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Hi!", "citations": None}]
    assert (message.model, message.stop_reason, message.usage.cache_read_input_tokens) == (
        "claude-small",
        "end_turn",
        4,
    )
    assert message._request_id
    assert scripted.llm.asked[0].options == {"max_tokens": 9, "thinking": False}


def test_client_puts_a_stream_together(scripted: Scripted) -> None:
    call = [ToolCallDelta(0, "call_1", "weather", ""), ToolCallDelta(0, None, None, '{"city": "Paris"}')]
    scripted.llm.script = [*READ, ReasoningDelta("Hm."), TextDelta("See:"), *call, done("See:", "tool_calls")]
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    with client(scripted.url).messages.stream(
        model="small", max_tokens=9, messages=HI, tools=[WEATHER], thinking=thinking
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].to_dict()["input"] == {"city": "Paris"}
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 8, 7)


def test_answer_can_be_sent_back(scripted: Scripted) -> None:
    scripted.llm.script = [
        *READ,
        ReasoningDelta("Hm."),
        ToolCallDelta(0, "call_1", "weather", "{}"),
        done(reason="tool_calls"),
    ]
    create = client(scripted.url).messages.create
    thinking: Any = {"type": "adaptive"}
    first = create(model="small", max_tokens=9, messages=HI, tools=[WEATHER], thinking=thinking)
    result: Any = {"type": "tool_result", "tool_use_id": "call_1", "content": "22 °C"}
    turns: Any = [*HI, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    create(model="small", max_tokens=9, messages=turns, tools=[WEATHER])
    asked = scripted.llm.asked[1].messages
    assert (asked[1]["reasoning"], asked[1]["tool_calls"][0]["id"]) == ("Hm.", "call_1")
    assert asked[2] == {"role": "tool", "tool_call_id": "call_1", "content": "22 °C"}


@pytest.mark.parametrize("stream", [False, True])
def test_model_that_is_not_served_is_not_found(scripted: Scripted, stream: bool) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client(scripted.url).messages.create(model="claude-opus", max_tokens=9, messages=HI, stream=stream)
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "The model 'claude-opus' is not served here. There is small."},
    }


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"messages": HI}, "max_tokens: Field required."),
        ({"max_tokens": 9, "messages": []}, "messages: "),
        ({"max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "image"}]}]}, "'image' is not supported"),
        ({"max_tokens": 9, "messages": HI, "temperature": -1}, "temperature"),
    ],
)
def test_bad_requests_are_named_in_anthropics_shape(scripted: Scripted, body: dict[str, Any], words: str) -> None:
    response = httpx.post(f"{scripted.url}/v1/messages", json=body)
    assert (response.status_code, response.json()["type"]) == (400, "error")
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


def test_prompt_that_is_too_long_is_refused_in_words_that_agents_know(scripted: Scripted) -> None:
    scripted.llm.script = [ContextLengthExceeded("The prompt has 5000 tokens, the context 4096.")]
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long: The prompt has 5000 tokens"):
        client(scripted.url).messages.create(model="small", max_tokens=9, messages=HI)


def test_crash_in_a_stream_is_an_error_event(scripted: Scripted) -> None:
    scripted.llm.script = [*READ, TextDelta("Hi"), WorkerCrashed("The worker process ended.")]
    stream = client(scripted.url).messages.create(model="small", max_tokens=9, messages=HI, stream=True)
    assert [next(stream).type for _ in range(3)] == ["message_start", "content_block_start", "content_block_delta"]
    with pytest.raises(anthropic.APIStatusError, match="worker process ended") as caught:
        next(stream)
    assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index]


def test_silent_stream_is_kept_alive_with_pings() -> None:
    backend = ScriptedBackend(Script("Hi!", delay_s=0.4))
    with served_by(lambda entry, report: LLM(backend), keep_alive_s=0.1) as server:
        url = server.url
        body = {"model": "small", "max_tokens": 9, "messages": HI, "stream": True}
        lines = httpx.post(f"{url}/v1/messages", json=body, timeout=30).text.splitlines()
        with client(url).messages.stream(model="small", max_tokens=9, messages=HI) as stream:
            assert stream.get_final_text() == "Hi!"
    assert lines.count("event: ping") >= 3
    assert lines.count('data: {"type":"ping"}') == lines.count("event: ping")


def test_real_model_answers_counts_and_names_its_stop_sequence(real_url: str) -> None:
    messages = client(real_url).messages
    counting: Any = [{"role": "user", "content": "Count from 1 to 9."}]
    greedy = {"temperature": 0}
    message = messages.create(
        model="claude-small", max_tokens=30, messages=counting, stop_sequences=["3", "4"], extra_body=greedy
    )
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "3")
    assert "3" not in message.content[0].to_dict()["text"]
    usage = message.usage
    n_prompt = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert messages.count_tokens(model="claude-small", messages=counting).input_tokens == n_prompt
    with_tools = messages.count_tokens(model="claude-small", messages=counting, tools=[WEATHER]).input_tokens
    assert with_tools > n_prompt + 20


def test_real_model_calls_the_tool_that_it_must_call(real_url: str) -> None:
    choice: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    asked: Any = [{"role": "user", "content": "How is the weather in Paris?"}]
    with client(real_url).messages.stream(
        model="smollm2",
        max_tokens=200,
        messages=asked,
        tools=[WEATHER],
        tool_choice=choice,
        extra_body={"temperature": 0},
    ) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["tool_use"]
    assert list(message.content[0].to_dict()["input"]) == ["city"]
    assert message.stop_reason == "tool_use"


def test_real_model_reuses_a_prompt_whose_billing_header_has_changed(real_url: str) -> None:
    rules = "You are a terse assistant of the harbour office. " + "Answer in one short sentence. " * 20

    def ask() -> Any:
        header = f"x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch={uuid.uuid4().hex[:5]};"
        system: Any = [{"type": "text", "text": header}, {"type": "text", "text": rules}]
        return client(real_url).messages.create(model="smollm2", max_tokens=4, system=system, messages=HI).usage

    first, second = ask(), ask()
    assert first.input_tokens > 100
    assert second.cache_read_input_tokens >= first.input_tokens + first.cache_read_input_tokens - 1
    assert second.input_tokens <= 1
