"""Point 1: what a stream of chat completion chunks looks like."""

from __future__ import annotations

import json

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.forcing import COUNT, EMOJI, HELLO, LONG_NOTE, NOTE, only
from localllm.conformance.target import Target

_USAGE_NAMES = ("prompt_tokens", "completion_tokens", "total_tokens")


@check(1)
async def role_in_first_chunk_only(target: Target) -> None:
    """The role comes in the first chunk, and in no other.

    Clients that begin a message at each role show one message for each token.
    """
    deltas = (await target.stream(COUNT)).deltas()
    expect_equal("the first delta's role", deltas[0].get("role"), "assistant")
    expect(all("role" not in delta for delta in deltas[1:]), "no role after the first chunk", deltas[1:4])


@check(1)
async def one_id_and_created(target: Target) -> None:
    """All chunks carry the same id, created, model and object."""
    chunks = (await target.stream(COUNT, stream_options={"include_usage": True})).chunks
    for name in ("id", "created", "model", "object"):
        seen = {json.dumps(chunk.get(name)) for chunk in chunks}
        expect(len(seen) == 1 and "null" not in seen, f"one {name} in all chunks", sorted(seen))
    expect_equal("the object", chunks[0]["object"], "chat.completion.chunk")
    expect(isinstance(chunks[0]["created"], int), "created in whole seconds", chunks[0]["created"])


@check(1)
async def ids_differ_between_requests(target: Target) -> None:
    """Two requests have two ids."""
    first, second = [await target.chat(HELLO, max_tokens=2) for _ in range(2)]
    expect(first["id"] != second["id"], "different ids", first["id"])


@check(1)
async def finish_reason_in_own_chunk(target: Target) -> None:
    """The finish reason comes in a chunk of its own, whose delta is {}."""
    choices = (await target.stream(COUNT)).choices()
    expect_equal("the last delta", choices[-1].get("delta"), {})
    expect(isinstance(choices[-1].get("finish_reason"), str), "a finish reason in the last choice", choices[-1])
    expect(all(c.get("finish_reason") is None for c in choices[:-1]), "null before the last", choices[-2])


@check(1)
async def finish_reason_is_null_until_then(target: Target) -> None:
    """Every choice has the key finish_reason, null until the end.

    Typed clients refuse a chunk without it.
    """
    choices = (await target.stream(COUNT)).choices()
    expect(all("finish_reason" in choice for choice in choices), "finish_reason in each choice", choices[0])


@check(1)
async def usage_only_if_asked(target: Target) -> None:
    """Without stream_options.include_usage there is no usage, and no chunk with empty choices.

    Many programs read choices[0] of every chunk.
    """
    chunks = (await target.stream(COUNT)).chunks
    expect(all(chunk.get("choices") for chunk in chunks), "a choice in each chunk", chunks[-1])
    expect(all(chunk.get("usage") is None for chunk in chunks), "no usage", chunks[-1])


@check(1)
async def usage_in_last_chunk(target: Target) -> None:
    """With include_usage, one last chunk has choices [] and the usage."""
    chunks = (await target.stream(COUNT, stream_options={"include_usage": True})).chunks
    expect_equal("the last chunk's choices", chunks[-1].get("choices"), [])
    usage = chunks[-1].get("usage") or {}
    expect(all(isinstance(usage.get(name), int) for name in _USAGE_NAMES), "the three counts", usage)
    expect(all(chunk.get("usage") is None for chunk in chunks[:-1]), "null before the last chunk", chunks[-2])
    expect(all(chunk.get("choices") for chunk in chunks[:-1]), "choices in all other chunks", chunks[-2])


@check(1)
async def done_comes_last(target: Target) -> None:
    """The stream ends with `data: [DONE]`, once."""
    events = (await target.stream(COUNT)).events
    expect_equal("the last event", events[-1].data, "[DONE]")
    expect_equal("the number of [DONE]", sum(event.data == "[DONE]" for event in events), 1)


@check(1)
async def is_an_event_stream(target: Target) -> None:
    """The content type is text/event-stream, and nothing lets proxies keep the stream back."""
    headers = (await target.stream(COUNT)).headers
    kind = headers.get("content-type", "")
    expect(kind.startswith("text/event-stream"), "content-type text/event-stream", kind)
    expect("max-age" not in headers.get("cache-control", ""), "no caching", headers.get("cache-control"))


@check(1)
async def comes_in_pieces(target: Target) -> None:
    """Text comes in several deltas, not all at the end."""
    deltas = [delta for delta in (await target.stream(COUNT)).deltas() if delta.get("content")]
    expect(len(deltas) >= 4, "at least 4 deltas for 16 tokens", len(deltas))


@check(1)
async def deltas_are_the_whole_answer(target: Target) -> None:
    """The deltas together are exactly the answer that is not streamed."""
    await target.need_schemas()
    forced = {"max_tokens": 120, **only(LONG_NOTE)}
    stream, whole = await target.stream(HELLO, **forced), await target.text(HELLO, **forced)
    expect_equal("the streamed text", json.loads(stream.content()), json.loads(whole))


@check(1)
async def length_when_cut(target: Target) -> None:
    """An answer that max_tokens cuts off ends with `length`, streamed and whole."""
    expect_equal("the finish reason", (await target.stream(COUNT, max_tokens=4)).finish_reason(), "length")
    whole = await target.chat(COUNT, max_tokens=4)
    expect_equal("the finish reason", whole["choices"][0]["finish_reason"], "length")


@check(1)
async def stop_when_complete(target: Target) -> None:
    """An answer that is complete ends with `stop`, streamed and whole."""
    await target.need_schemas()
    forced = {"max_tokens": 120, **only("yes")}
    expect_equal("the finish reason", (await target.stream(HELLO, **forced)).finish_reason(), "stop")
    whole = await target.chat(HELLO, **forced)
    expect_equal("the finish reason", whole["choices"][0]["finish_reason"], "stop")


@check(1)
async def length_before_tool_calls(target: Target) -> None:
    """A tool call that max_tokens cuts off ends with `length`, not `tool_calls`.

    An agent that is told tool_calls runs a call whose arguments are cut off.
    """
    await target.need_tools()
    cut = {"tools": [NOTE], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 12}
    expect_equal("the finish reason", (await target.stream(HELLO, **cut)).finish_reason(), "length")
    whole = await target.chat(HELLO, **cut)
    expect_equal("the finish reason", whole["choices"][0]["finish_reason"], "length")


@check(1)
async def whole_characters(target: Target) -> None:
    """No delta holds half a character: emoji, accents and kanji arrive whole."""
    await target.need_schemas()
    content = (await target.stream(HELLO, max_tokens=120, **only(EMOJI))).content()
    expect("\ufffd" not in content, "no U+FFFD", content)
    expect_equal("the text", json.loads(content).get("text"), EMOJI)


@check(1)
async def whole_characters_when_cut(target: Target) -> None:
    """Nor when max_tokens ends the answer within one."""
    await target.need_schemas()
    for max_tokens in range(4, 14):
        forced = {"max_tokens": max_tokens, **only("😀🎉🏳️‍🌈日本語" * 4)}
        content = (await target.stream(HELLO, **forced)).content()
        expect("\ufffd" not in content, f"no U+FFFD with max_tokens {max_tokens}", content)
        whole = await target.text(HELLO, **forced)
        expect("\ufffd" not in whole, f"no U+FFFD with max_tokens {max_tokens}, not streamed", whole)


@check(1)
async def client_accumulates(target: Target) -> None:
    """The official client's stream helper puts the chunks together again."""
    await target.need_schemas()
    # The helper raises where an answer is cut off, so this one must come to its end.
    arguments = target.arguments(HELLO, max_tokens=120, **only(LONG_NOTE))
    async with target.openai.chat.completions.stream(**arguments) as stream:
        texts = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    expect_equal("the final text", final.choices[0].message.content, "".join(texts))
    expect_equal("the role", final.choices[0].message.role, "assistant")
