"""OpenAI's Responses API, through its official client."""

from __future__ import annotations

import json
from typing import Any

import openai

from localllm.conformance.check import Unmet, check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COUNT, HELLO, LONG_NOTE, filler, object_schema, random_words
from localllm.conformance.target import Target

_PATH = "/v1/responses"
_NOTE: Json = {
    "type": "function",
    "name": "save_note",
    "description": "Save a note.",
    "strict": True,
    "parameters": object_schema(text={"type": "string", "enum": [LONG_NOTE]}),
}
# One call: a weak model that may call in parallel never stops.
_MUST_CALL: Json = {
    "tools": [_NOTE],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_output_tokens": 200,
}


def _only(text: str) -> Json:
    """Return the fields that allow one answer: {"text": TEXT}."""
    schema = object_schema(text={"type": "string", "enum": [text]})
    form = {"type": "json_schema", "name": "answer", "strict": True, "schema": schema}
    return {"text": {"format": form}, "max_output_tokens": 200}


async def _body(target: Target, value: Any = HELLO, **fields: Any) -> Json:
    """Return the body of a request; a server without this API skips the check."""
    body = {"model": target.model, "input": value, "max_output_tokens": 16, "temperature": 0}
    await target.need_path(_PATH, body)
    return {**body, **fields}


async def _response(target: Target, value: Any = HELLO, **fields: Any) -> Any:
    """Return a response through the official client."""
    return await target.openai.responses.create(**await _body(target, value, **fields))


async def _events(target: Target, value: Any = HELLO, **fields: Any) -> list[Json]:
    stream = await target.wire.stream(_PATH, await _body(target, value, stream=True, **fields))
    expect(stream.status == 200, "HTTP 200", f"HTTP {stream.status}: {stream.text}")
    found: list[Json] = [json.loads(event.data) for event in stream.events if event.data != "[DONE]"]
    names = [event.name for event in stream.events if event.data != "[DONE]"]
    expect_equal("the events' names", names, [event.get("type") for event in found])
    return found


@check(17)
async def response(target: Target) -> None:
    """A response has an id, a status, a message with its text, and the usage."""
    found = await _response(target, COUNT)
    expect(isinstance(found.id, str) and found.id.startswith("resp_"), "an id that begins with resp_", found.id)
    expect_equal("the object", found.object, "response")
    expect(bool(found.output_text), "a text", found.output)
    expect_equal("output_tokens", found.usage.output_tokens, 16)
    expect_equal("total_tokens", found.usage.total_tokens, found.usage.input_tokens + found.usage.output_tokens)


@check(17)
async def status_tells_the_end(target: Target) -> None:
    """An answer that is cut off is `incomplete`, for max_output_tokens; a complete one is `completed`."""
    cut = await _response(target, COUNT, max_output_tokens=16)
    expect_equal("status and reason", [cut.status, cut.incomplete_details.reason], ["incomplete", "max_output_tokens"])
    whole = await _response(target, **_only("yes"))
    expect_equal("the status", whole.status, "completed")


@check(17)
async def text_format(target: Target) -> None:
    """text.format with a schema is obeyed."""
    found = await _response(target, "Write a poem.", **_only("mauve"))
    expect_equal("the JSON", json.loads(found.output_text), {"text": "mauve"})


@check(17)
async def order_of_events(target: Target) -> None:
    """A stream begins with response.created, numbers its events, and ends with the whole response."""
    events = await _events(target, COUNT)
    types = [event["type"] for event in events]
    expect_equal("the first event", types[0], "response.created")
    expect(types[-1] in ("response.completed", "response.incomplete"), "the whole response at the end", types[-1])
    numbers = [event.get("sequence_number") for event in events]
    expect_equal("the sequence numbers", numbers, list(range(numbers[0] or 0, (numbers[0] or 0) + len(events))))
    for name in ("response.output_item.added", "response.content_part.added", "response.output_text.done"):
        expect_equal(f"the number of {name}", types.count(name), 1)


@check(17)
async def deltas_are_the_text(target: Target) -> None:
    """The text deltas together are the text at the end, and they are several."""
    events = await _events(target, COUNT)
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    expect(len(deltas) >= 4, "at least 4 deltas for 16 tokens", len(deltas))
    parts = events[-1]["response"]["output"][-1]["content"]
    expect_equal("the text", "".join(deltas), parts[0]["text"])


@check(17)
async def client_accumulates(target: Target) -> None:
    """The official client's stream helper puts the response together again."""
    # The helper raises where an answer is cut off, so this one must come to its end.
    await target.need_schemas()
    async with target.openai.responses.stream(**await _body(target, **_only(LONG_NOTE))) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    expect("response.output_text.delta" in kinds, "text deltas", kinds)
    expect_equal("the JSON", json.loads(final.output_text), {"text": LONG_NOTE})


@check(17)
async def previous_response(target: Target) -> None:
    """previous_response_id continues a conversation that the server kept."""
    words = random_words(30)
    first = await _response(target, f"Remember: {words}")
    second = await _response(target, "Go on.", previous_response_id=first.id)
    expect_equal("previous_response_id", second.previous_response_id, first.id)
    before, after = first.usage.input_tokens, second.usage.input_tokens
    expect(after > before, f"more than the {before} tokens of the conversation before", after)


@check(17)
async def previous_response_is_a_chain(target: Target) -> None:
    """It goes on over several responses, also after one that was streamed."""
    first = await _response(target, f"Remember: {random_words(30)}")
    streamed = (await _events(target, "Go on.", previous_response_id=first.id))[-1]["response"]
    third = await _response(target, "And on.", previous_response_id=streamed["id"])
    counts = [first.usage.input_tokens, streamed["usage"]["input_tokens"], third.usage.input_tokens]
    expect(counts[0] < counts[1] < counts[2], "a growing prompt", counts)


@check(17)
async def unknown_previous_response(target: Target) -> None:
    """An id that there is not is HTTP 400 or 404, never an answer without the conversation."""
    body = await _body(target, previous_response_id="resp_0123456789abcdef")
    answer = await target.wire.post(_PATH, body)
    expect(answer.status in (400, 404), "HTTP 400 or 404", f"HTTP {answer.status}: {answer.text}")


@check(17)
async def kept_and_deleted(target: Target) -> None:
    """A response can be read again and deleted; one with store false is not kept."""
    found = await _response(target)
    again = await target.openai.responses.retrieve(found.id)
    expect_equal("the text", again.output_text, found.output_text)
    await target.openai.responses.delete(found.id)
    unkept = await _response(target, store=False)
    for name in (found.id, unkept.id):
        try:
            await target.openai.responses.retrieve(name)
        except openai.NotFoundError:
            continue
        raise Unmet("HTTP 404", "a response that should not be there")


@check(17)
async def instructions(target: Target) -> None:
    """`instructions` are part of the prompt; messages and parts are accepted as input."""
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "Hi."}]}]
    short = await _response(target, parts, instructions="Be brief.")
    long = await _response(target, "Hi.", instructions="Be brief, and answer in the most formal French there is.")
    counts = [short.usage.input_tokens, long.usage.input_tokens]
    expect(counts[1] >= counts[0] + 6, "more tokens with longer instructions", counts)


@check(17)
async def function_calls(target: Target) -> None:
    """A call is an item of its own, and its output goes back as one."""
    await target.need_tools()
    found = await _response(target, **_MUST_CALL)
    [call] = [item for item in found.output if item.type == "function_call"]
    expect_equal("name and arguments", [call.name, json.loads(call.arguments)], ["save_note", {"text": LONG_NOTE}])
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Saved."}
    await _response(target, [result], previous_response_id=found.id, tools=[_NOTE])


@check(17)
async def function_calls_streamed(target: Target) -> None:
    """In a stream its arguments come in pieces."""
    await target.need_tools()
    events = await _events(target, **_MUST_CALL)
    name = "response.function_call_arguments"
    deltas = [event["delta"] for event in events if event["type"] == f"{name}.delta"]
    done = [event["arguments"] for event in events if event["type"] == f"{name}.done"]
    expect(len(deltas) >= 4, "at least 4 pieces", len(deltas))
    expect_equal("the arguments at the end", done, ["".join(deltas)])


@check(17)
async def overflow(target: Target) -> None:
    """A prompt that is too long is HTTP 400, context_length_exceeded."""
    n_ctx = await target.n_ctx()
    answer = await target.wire.post(_PATH, await _body(target, filler(n_ctx + max(n_ctx // 50, 64))))
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")
    expect_equal("the code", answer.error.get("code"), "context_length_exceeded")
