"""OpenAI's Responses API through its official client: with scripted events, and with the real demo model."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from localllm.errors import ContextLengthExceeded, WorkerCrashed
from localllm.llm import Progress, ReasoningDelta, TextDelta, ToolCallDelta
from tests.server.official import Scripted, done, real_url, scripted

__all__ = ["real_url", "scripted"]

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
READ = (Progress(0, 12, 0), Progress(12, 12, 4))
HI = (*READ, TextDelta("Hi!"), done("Hi!"))


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def test_client_gets_a_whole_response(scripted: Scripted) -> None:
    scripted.llm.script = [*HI]
    response = client(scripted.url).responses.create(model="small", input="Say hi.", metadata={"a": "b"})
    assert (response.output_text, response.status, response.metadata) == ("Hi!", "completed", {"a": "b"})
    assert response.usage is not None
    assert response.usage.input_tokens_details.cached_tokens == 4


def test_client_puts_a_stream_together(scripted: Scripted) -> None:
    call = [ToolCallDelta(0, "call_1", "weather", ""), ToolCallDelta(0, None, None, '{"city": "Paris"}')]
    scripted.llm.script = [*READ, ReasoningDelta("Hm."), TextDelta("See:"), *call, done("See:", "tool_calls")]
    with client(scripted.url).responses.stream(model="small", input="Weather?", tools=[WEATHER]) as stream:
        numbers = [event.sequence_number for event in stream if event.type.startswith("response.")]
        response = stream.get_final_response()
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
    assert response.output[2].parsed_arguments == {"city": "Paris"}  # type: ignore[union-attr]
    assert numbers == sorted(set(numbers))


def test_response_follows_the_one_before(scripted: Scripted) -> None:
    scripted.llm.script = [
        *READ,
        ReasoningDelta("Hm."),
        ToolCallDelta(0, "call_1", "weather", "{}"),
        done(reason="tool_calls"),
    ]
    create = client(scripted.url).responses.create
    first = create(model="small", input="Weather?", instructions="Be brief.", tools=[WEATHER])
    output: Any = [{"type": "function_call_output", "call_id": "call_1", "output": "22 °C"}]
    scripted.llm.script = [*HI]
    second = create(model="small", input=output, previous_response_id=first.id, tools=[WEATHER])
    asked = scripted.llm.asked[1].messages
    assert [message["role"] for message in asked] == ["user", "assistant", "tool"]
    assert (asked[1]["reasoning"], asked[1]["tool_calls"][0]["id"]) == ("Hm.", "call_1")
    assert second.previous_response_id == first.id


def test_streamed_response_is_kept_too(scripted: Scripted) -> None:
    scripted.llm.script = [*HI]
    responses = client(scripted.url).responses
    with responses.stream(model="small", input="Say hi.") as stream:
        response = stream.get_final_response()
    assert responses.retrieve(response.id).output_text == "Hi!"


def test_kept_response_can_be_read_and_deleted(scripted: Scripted) -> None:
    scripted.llm.script = [*HI]
    responses = client(scripted.url).responses
    first = responses.create(model="small", input="One?")
    second = responses.create(model="small", input="Two?", previous_response_id=first.id)
    texts = [item.to_dict()["content"][0]["text"] for item in responses.input_items.list(second.id, order="asc")]
    assert texts == ["One?", "Hi!", "Two?"]
    paged = [item.to_dict()["content"][0]["text"] for item in responses.input_items.list(second.id, limit=1)]
    assert paged == texts[::-1]
    responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(second.id)


def test_response_that_is_not_to_be_stored_is_not_kept(scripted: Scripted) -> None:
    scripted.llm.script = [*HI]
    responses = client(scripted.url).responses
    response = responses.create(model="small", input="Say hi.", store=False)
    with pytest.raises(openai.NotFoundError):
        responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as caught:
        responses.create(model="small", input="And?", previous_response_id=response.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize("path", ["", "/input_items"])
@pytest.mark.parametrize("query", ["", "?after=x&limit=3"])
def test_unknown_response_is_not_found(scripted: Scripted, path: str, query: str) -> None:
    response = httpx.get(f"{scripted.url}/v1/responses/resp_0{path}{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "response_not_found")


def test_prompt_that_is_too_long_has_the_code_that_agents_know(scripted: Scripted) -> None:
    scripted.llm.script = [ContextLengthExceeded("The prompt has 5000 tokens, the context 4096.")]
    with pytest.raises(openai.BadRequestError) as caught:
        client(scripted.url).responses.create(model="small", input="Hi.")
    assert caught.value.code == "context_length_exceeded"


def test_hosted_tools_are_refused_by_name(scripted: Scripted) -> None:
    with pytest.raises(openai.BadRequestError, match="'web_search' tools are not supported"):
        client(scripted.url).responses.create(model="small", input="Hi.", tools=[{"type": "web_search"}])


def test_crash_in_a_stream_is_a_failed_response(scripted: Scripted) -> None:
    scripted.llm.script = [*READ, TextDelta("Hi"), WorkerCrashed("The worker process ended.")]
    events = list(client(scripted.url).responses.create(model="small", input="Hi.", stream=True))
    last: Any = events[-1]
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.message) == ("failed", "The worker process ended.")


class Person(BaseModel):
    """What the real model shall say."""

    name: str
    age: int


def test_real_model_goes_on_from_its_last_response(real_url: str) -> None:
    responses = client(real_url).responses
    options: Any = {"model": "smollm2", "max_output_tokens": 12, "temperature": 0}
    first = responses.create(input="Say hi to Ann.", **options)
    second = responses.create(input="Once more.", previous_response_id=first.id, **options)
    assert first.usage is not None and second.usage is not None
    n_before = first.usage.input_tokens + first.usage.output_tokens
    assert second.usage.input_tokens_details.cached_tokens >= n_before - 2
    counted = responses.input_tokens.count(model="smollm2", input="Once more.", previous_response_id=first.id)
    assert counted.input_tokens == second.usage.input_tokens


def test_real_model_fills_a_schema(real_url: str) -> None:
    response = client(real_url).responses.parse(
        model="smollm2", input="Ann is 7 years old. Who?", text_format=Person, max_output_tokens=100, temperature=0
    )
    assert isinstance(response.output_parsed, Person)


def test_real_model_calls_the_tool_that_it_must_call(real_url: str) -> None:
    choice: Any = {"type": "function", "name": "weather"}
    with client(real_url).responses.stream(
        model="smollm2", input="How is the weather in Paris?", tools=[WEATHER], tool_choice=choice,
        max_output_tokens=200, temperature=0, parallel_tool_calls=False,
    ) as stream:  # fmt: skip
        response = stream.get_final_response()
    call: Any = response.output[0]
    assert (call.type, call.name, list(call.parsed_arguments)) == ("function_call", "weather", ["city"])
