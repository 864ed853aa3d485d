"""Anthropic's Messages API, through its official client."""

from __future__ import annotations

import json
from typing import Any

import anthropic

from localllm.conformance.check import NotApplicable, Unmet, check, expect, expect_equal
from localllm.conformance.exchange import Json, SseEvent
from localllm.conformance.forcing import COUNT, HELLO, LONG_NOTE, filler, object_schema, text_part, user
from localllm.conformance.target import Target

_PATH = "/v1/messages"
_NOTE: Json = {
    "name": "save_note",
    "description": "Save a note.",
    "input_schema": object_schema(text={"type": "string", "enum": [LONG_NOTE]}),
}
_ONE = {"disable_parallel_tool_use": True}
"""A weak model that may call in parallel never stops."""
_MUST_CALL: Json = {"tools": [_NOTE], "tool_choice": {"type": "any", **_ONE}, "max_tokens": 200}


async def _body(target: Target, content: Any = HELLO, **fields: Any) -> Json:
    """Return the body of a request; a server without this API skips the check."""
    body = {"model": target.model, "max_tokens": 16, "messages": [user(content)], "temperature": 0}
    await target.need_path(_PATH, body)
    return {**body, **fields}


async def _arguments(target: Target, content: Any = HELLO, **fields: Any) -> Json:
    """Return the body as the official client's arguments, among which there is no temperature any more."""
    body = await _body(target, content, **fields)
    temperature = body.pop("temperature")
    return {**body, "extra_body": {"temperature": temperature}}


async def _message(target: Target, content: Any = HELLO, **fields: Any) -> Any:
    """Return a message through the official client."""
    return await target.anthropic.messages.create(**await _arguments(target, content, **fields))


async def _events(target: Target, content: Any = HELLO, **fields: Any) -> list[SseEvent]:
    stream = await target.wire.stream(_PATH, await _body(target, content, stream=True, **fields))
    expect(stream.status == 200, "HTTP 200", f"HTTP {stream.status}: {stream.text}")
    return [event for event in stream.events if event.name != "ping"]


def _input_tokens(usage: Any) -> int:
    """Return the tokens of the whole prompt, cached or not."""
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    return int(usage.input_tokens + read + written)


@check(16)
async def message(target: Target) -> None:
    """A message has its type, role, text block, stop reason and usage."""
    found = await _message(target, COUNT)
    expect_equal("type and role", [found.type, found.role], ["message", "assistant"])
    expect(isinstance(found.id, str) and found.id.startswith("msg_"), "an id that begins with msg_", found.id)
    expect_equal("the first block", found.content[0].type, "text")
    expect(bool(found.content[0].text), "a text", found.content[0])
    expect_equal("output_tokens", found.usage.output_tokens, 16)


@check(16)
async def stop_reasons(target: Target) -> None:
    """stop_reason is max_tokens or stop_sequence; stop_sequence names which."""
    cut = await _message(target, COUNT, max_tokens=4)
    expect_equal("stop reason and sequence", [cut.stop_reason, cut.stop_sequence], ["max_tokens", None])
    digits = ["2", "3", "4"]
    found = await _message(target, COUNT, max_tokens=40, stop_sequences=digits)
    text = "".join(block.text for block in found.content)
    expect(not any(digit in text for digit in digits), "nothing of the stop sequence", text)
    if found.stop_reason != "stop_sequence" and found.stop_sequence is None:
        free = await _message(target, COUNT, max_tokens=40)
        expect(not any(d in free.content[0].text for d in digits), "the stop reason stop_sequence", found.stop_reason)
        raise NotApplicable("the model does not count as it is told")
    expect_equal("the stop reason", found.stop_reason, "stop_sequence")
    expect(found.stop_sequence in digits, f"one of {digits}", found.stop_sequence)


@check(16)
async def order_of_events(target: Target) -> None:
    """A stream's events come in order, named, and there is no [DONE]."""
    events = await _events(target, COUNT)
    names = [event.name for event in events]
    expect_equal("the first two events", names[:2], ["message_start", "content_block_start"])
    expect_equal("the last three events", names[-3:], ["content_block_stop", "message_delta", "message_stop"])
    expect_equal("what is between", set(names[2:-3]), {"content_block_delta"})
    types = [json.loads(event.data)["type"] for event in events]
    expect_equal("the types in the data", types, names)


@check(16)
async def start_and_end_of_streams(target: Target) -> None:
    """message_start holds an empty message and the input's tokens; message_delta the reason and the output's."""
    events = await _events(target, COUNT)
    start, end = json.loads(events[0].data)["message"], json.loads(events[-2].data)
    expect_equal("content and stop reason at the start", [start["content"], start["stop_reason"]], [[], None])
    expect(start["usage"]["input_tokens"] > 0, "input_tokens at the start", start["usage"])
    expect_equal("the stop reason", end["delta"]["stop_reason"], "max_tokens")
    expect_equal("output_tokens", end["usage"]["output_tokens"], 16)


@check(16)
async def client_accumulates(target: Target) -> None:
    """The official client's stream helper puts the message together again."""
    async with target.anthropic.messages.stream(**await _arguments(target, COUNT)) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    expect(len(texts) >= 4, "at least 4 pieces for 16 tokens", len(texts))
    expect_equal("the final text", final.content[0].text, "".join(texts))


@check(16)
async def tool_use(target: Target) -> None:
    """tool_choice `any` and `tool` make a tool_use block whose input obeys the schema."""
    await target.need_tools()
    for choice in ({"type": "any", **_ONE}, {"type": "tool", "name": "save_note", **_ONE}):
        found = await _message(target, **{**_MUST_CALL, "tool_choice": choice})
        block = found.content[-1]
        expect_equal("block and name", [block.type, getattr(block, "name", None)], ["tool_use", "save_note"])
        expect_equal("the input", block.input, {"text": LONG_NOTE})
        expect_equal("the stop reason", found.stop_reason, "tool_use")


@check(16)
async def tool_choice_none(target: Target) -> None:
    """tool_choice `none` makes none."""
    await target.need_tools()
    found = await _message(target, COUNT, tools=[_NOTE], tool_choice={"type": "none"})
    expect_equal("the blocks", [block.type for block in found.content], ["text"])


@check(16)
async def tool_use_streamed(target: Target) -> None:
    """In a stream, a call's input comes as input_json_delta, in pieces, after a block with id and name."""
    await target.need_tools()
    events = [json.loads(event.data) for event in await _events(target, **_MUST_CALL)]
    starts = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    expect_equal("the last block", [starts[-1]["type"], starts[-1].get("name")], ["tool_use", "save_note"])
    expect_equal("its input at first", starts[-1].get("input"), {})
    pieces = [e["delta"]["partial_json"] for e in events if e.get("delta", {}).get("type") == "input_json_delta"]
    expect(len([piece for piece in pieces if piece]) >= 4, "at least 4 pieces", pieces)
    expect_equal("the input", json.loads("".join(pieces)), {"text": LONG_NOTE})


@check(16)
async def tool_results(target: Target) -> None:
    """Tool results, as text or blocks, with is_error, are accepted and read."""
    await target.need_tools()
    use = {"type": "tool_use", "id": "toolu_1", "name": "save_note", "input": {"text": LONG_NOTE}}
    counts = []
    for content in ("Saved.", [text_part("Saved. " * 20)]):
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, "is_error": False}
        messages = [user("Save it."), {"role": "assistant", "content": [use]}, user([result])]
        found = await _message(target, tools=[_NOTE], messages=messages, max_tokens=2)
        counts.append(_input_tokens(found.usage))
    expect(counts[1] >= counts[0] + 20, "a longer result to make a longer prompt", counts)


@check(16)
async def system_and_blocks(target: Target) -> None:
    """`system` and `content` may be text or blocks, with cache_control, and are the same prompt."""
    counts = []
    for system, content in (
        ("Be brief.", "Hi."),
        ([{**text_part("Be brief."), "cache_control": {"type": "ephemeral"}}], [text_part("Hi.")]),
    ):
        found = await _message(target, content, system=system, metadata={"user_id": "u"}, max_tokens=1)
        counts.append(_input_tokens(found.usage))
    expect_equal("the prompt's tokens", counts[1], counts[0])


@check(16)
async def structured_output(target: Target) -> None:
    """output_config.format with a schema is obeyed, or refused with HTTP 400; never ignored."""
    schema = object_schema(text={"type": "string", "enum": ["mauve"]})
    config = {"format": {"type": "json_schema", "schema": schema}}
    answer = await target.wire.post(_PATH, await _body(target, "Write a poem.", output_config=config, max_tokens=60))
    if answer.status != 400:
        expect_equal("the JSON", json.loads(answer.ok()["content"][0]["text"]), {"text": "mauve"})


@check(16)
async def thinking(target: Target) -> None:
    """`thinking` is accepted; a model that thinks gives its thoughts in a block of their own."""
    limits = {"max_tokens": 64, "temperature": 1, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    found = await _message(target, **limits)
    if target.thinks:
        expect_equal("the first block", found.content[0].type, "thinking")
    await _message(target, max_tokens=2, thinking={"type": "adaptive"})
    off = await _message(target, max_tokens=8, thinking={"type": "disabled"})
    expect(all(block.type == "text" for block in off.content), "text blocks only", off.content)


@check(16)
async def counting_tokens(target: Target) -> None:
    """/v1/messages/count_tokens counts what a message then uses, with system and tools."""
    fields: Json = {"system": "Be brief.", "tools": [_NOTE]}
    body = await _body(target, COUNT, **fields)
    counted = {name: body[name] for name in ("model", "messages", "system", "tools")}
    found = await target.anthropic.messages.count_tokens(**counted)
    used = await _message(target, COUNT, **fields, max_tokens=1)
    expect_equal("input_tokens", found.input_tokens, _input_tokens(used.usage))


@check(16)
async def errors_have_its_shape(target: Target) -> None:
    """Errors are {"type": "error", "error": {type, message}}, with the right status."""
    body = await _body(target)
    for wrong, status, kind in (
        ({"model": "no-such-model-here"}, 404, "not_found_error"),
        ({"messages": "Hi"}, 400, "invalid_request_error"),
        ({"max_tokens": "many"}, 400, "invalid_request_error"),
    ):
        answer = await target.wire.post(_PATH, {**body, **wrong})
        expect(answer.status == status, f"HTTP {status} for {wrong}", f"HTTP {answer.status}: {answer.text}")
        expect_equal("type", answer.json.get("type"), "error")
        expect_equal("error.type", answer.error.get("type"), kind)


@check(16)
async def client_raises(target: Target) -> None:
    """The official client raises NotFoundError for a model that there is not."""
    try:
        await _message(target, model="no-such-model-here")
    except anthropic.NotFoundError:
        return
    raise Unmet("NotFoundError", "a message")


@check(16)
async def overflow(target: Target) -> None:
    """A prompt that is too long is HTTP 400, invalid_request_error, and the message has the numbers."""
    n_ctx = await target.n_ctx()
    answer = await target.wire.post(_PATH, await _body(target, filler(n_ctx + max(n_ctx // 50, 64))))
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")
    expect_equal("error.type", answer.error.get("type"), "invalid_request_error")
    message = str(answer.error.get("message")).replace(",", "")
    expect(str(n_ctx) in message, f"{n_ctx} in the message", message)


@check(16)
async def x_api_key(target: Target) -> None:
    """The key may come as x-api-key, and a wrong one is HTTP 401 authentication_error."""
    body = await _body(target, max_tokens=1)
    if target.options.key is None:
        raise NotApplicable("no key was given")
    headers = {"authorization": "", "x-api-key": target.options.key}
    (await target.wire.post(_PATH, body, headers)).ok()
    answer = await target.wire.post(_PATH, body, {"authorization": "", "x-api-key": "wrong-key"})
    expect_equal("the status", answer.status, 401)
    expect_equal("error.type", answer.error.get("type"), "authentication_error")
