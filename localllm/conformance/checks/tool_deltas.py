"""Point 2: what tool calls look like, streamed and whole."""

from __future__ import annotations

import json
from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json, Stream
from localllm.conformance.forcing import (
    COLOURS,
    COUNT,
    HELLO,
    LONG_NOTE,
    NOTE,
    PAINT,
    TOOLS,
    conversation_with_result,
)
from localllm.conformance.target import Target

# One call: a weak model that may call in parallel never stops.
_MUST_CALL: Json = {"tools": [NOTE], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}


async def _called(target: Target) -> Stream:
    """Return a stream with one long call in it."""
    await target.need_tools()
    stream = await target.stream(HELLO, **_MUST_CALL)
    expect(bool(stream.tool_deltas()), "a tool call", stream.content())
    return stream


async def _call(target: Target, **fields: Any) -> Json:
    """Return the message of an answer that calls."""
    await target.need_tools()
    answer = await target.chat(HELLO, **{**_MUST_CALL, **fields})
    message: Json = answer["choices"][0]["message"]
    expect(bool(message.get("tool_calls")), "a tool call", message)
    return message


@check(2)
async def index_on_every_delta(target: Target) -> None:
    """Every delta of a call has its index."""
    deltas = (await _called(target)).tool_deltas()
    expect(all(isinstance(delta.get("index"), int) for delta in deltas), "an index on each delta", deltas)


@check(2)
async def id_and_name_once(target: Target) -> None:
    """A call's id, type and name come once, in its first delta."""
    deltas = (await _called(target)).tool_deltas()
    first, later = deltas[0], deltas[1:]
    expect(isinstance(first.get("id"), str) and bool(first["id"]), "an id in the first delta", first)
    expect_equal("the type", first.get("type"), "function")
    expect_equal("the name", first.get("function", {}).get("name"), "save_note")
    expect(not any(d.get("id") for d in later), "no id after the first delta", later[:2])
    expect(not any(d.get("function", {}).get("name") for d in later), "no name after it", later[:2])


@check(2)
async def later_deltas_have_no_empty_names(target: Target) -> None:
    """Later deltas carry no empty id and no empty name.

    Clients that take a name for the start of a call begin another one, with an empty name.
    """
    later = (await _called(target)).tool_deltas()[1:]
    expect(all(delta.get("id") != "" for delta in later), "no empty id", later[:2])
    names = [delta.get("function", {}).get("name") for delta in later]
    expect("" not in names, "no empty name", names[:3])


@check(2)
async def arguments_come_in_pieces(target: Target) -> None:
    """The arguments come in pieces: a call does not turn streaming off."""
    deltas = (await _called(target)).tool_deltas()
    pieces = [d for d in deltas if d.get("function", {}).get("arguments")]
    expect(len(pieces) >= 4, "at least 4 deltas with arguments", len(pieces))


@check(2)
async def text_comes_in_pieces_beside_tools(target: Target) -> None:
    """With tools in the request, text still comes in pieces."""
    await target.need_tools()
    deltas = (await target.stream(COUNT, tools=TOOLS, tool_choice="none")).deltas()
    n_pieces = sum(bool(delta.get("content")) for delta in deltas)
    expect(n_pieces >= 4, "at least 4 deltas for 16 tokens", n_pieces)


@check(2)
async def arguments_are_json(target: Target) -> None:
    """The pieces together are the JSON of the arguments, an object."""
    deltas = (await _called(target)).tool_deltas()
    text = "".join(delta.get("function", {}).get("arguments") or "" for delta in deltas)
    expect_equal("the arguments", json.loads(text), {"text": LONG_NOTE})


@check(2)
async def finish_reason_streamed(target: Target) -> None:
    """A stream with a call ends with `tool_calls`."""
    expect_equal("the finish reason", (await _called(target)).finish_reason(), "tool_calls")


@check(2)
async def finish_reason_whole(target: Target) -> None:
    """A whole answer with a call ends with `tool_calls`."""
    await target.need_tools()
    answer = await target.chat(HELLO, **_MUST_CALL)
    expect_equal("the finish reason", answer["choices"][0]["finish_reason"], "tool_calls")


@check(2)
async def content_is_null_beside_a_call(target: Target) -> None:
    """A whole answer that only calls has the key content, and it is null.

    Typed clients need the key; an empty string goes back into the next prompt as a text.
    """
    message = await _call(target)
    expect("content" in message, "the key content", sorted(message))
    expect_equal("content", message["content"], None)


@check(2)
async def call_whole(target: Target) -> None:
    """A whole call has id, type, name, and arguments as a JSON text."""
    call = (await _call(target))["tool_calls"][0]
    expect(isinstance(call.get("id"), str) and bool(call["id"]), "an id", call)
    expect_equal("the type", call.get("type"), "function")
    expect_equal("the name", call["function"]["name"], "save_note")
    expect(isinstance(call["function"]["arguments"], str), "arguments as text", call["function"]["arguments"])
    expect_equal("the arguments", json.loads(call["function"]["arguments"]), {"text": LONG_NOTE})


@check(2)
async def call_ids_differ(target: Target) -> None:
    """Calls of two answers have different ids.

    Agents look results up by them in the whole conversation.
    """
    ids = [(await _call(target))["tool_calls"][0]["id"] for _ in range(2)]
    expect(ids[0] != ids[1], "two ids", ids)


@check(2)
async def null_call_id_is_accepted(target: Target) -> None:
    """A tool result whose tool_call_id is null is accepted."""
    await target.need_tools()
    await target.chat(conversation_with_result("call_1", result_id=None), tools=TOOLS, tool_choice="none")


@check(2)
async def result_is_read(target: Target) -> None:
    """A call and its result go back into the conversation, and the result is part of the prompt."""
    await target.need_tools()
    short = await target.n_prompt_tokens(conversation_with_result("call_1", "call_1"), tools=TOOLS)
    longer = conversation_with_result("call_1", "call_1", result="The wall is wet. " * 10)
    long = await target.n_prompt_tokens(longer, tools=TOOLS)
    expect(long >= short + 20, "a longer result to make a longer prompt", f"{short} and {long} tokens")


@check(2)
async def client_accumulates_calls(target: Target) -> None:
    """The official client's stream helper puts a call together again."""
    await target.need_tools()
    arguments = target.arguments(HELLO, **{**_MUST_CALL, "tools": [PAINT]})
    async with target.openai.chat.completions.stream(**arguments) as stream:
        final = await stream.get_final_completion()
    call = final.choices[0].message.tool_calls[0]
    expect_equal("the name", call.function.name, "paint_wall")
    expect(json.loads(call.function.arguments)["colour"] in COLOURS, "a colour of the schema", call.function.arguments)
