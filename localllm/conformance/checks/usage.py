"""Point 12: usage counts what was computed."""

from __future__ import annotations

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COUNT, HELLO, TOOLS, random_words, user
from localllm.conformance.target import Target


def cached_tokens(usage: Json) -> int:
    """Return prompt_tokens_details.cached_tokens.

    Raises:
        Unmet: it is not there.
    """
    details = usage.get("prompt_tokens_details") or {}
    expect(isinstance(details.get("cached_tokens"), int), "prompt_tokens_details.cached_tokens", usage)
    return int(details["cached_tokens"])


@check(12)
async def total_is_the_sum(target: Target) -> None:
    """total_tokens is prompt_tokens and completion_tokens."""
    usage = (await target.chat(COUNT))["usage"]
    expect_equal("total_tokens", usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
    expect_equal("completion_tokens", usage["completion_tokens"], 16)


@check(12)
async def counts_the_template(target: Target) -> None:
    """prompt_tokens counts what the chat template adds."""
    text = "Hello there, my dear friend."
    body = {"model": target.model, "prompt": text, "max_tokens": 1}
    await target.need_path("/v1/completions", body)
    bare = (await target.wire.post("/v1/completions", body)).ok()["usage"]["prompt_tokens"]
    chat = await target.n_prompt_tokens(text)
    expect(chat > bare, f"more than the {bare} tokens of the text alone", chat)


@check(12)
async def counts_every_message(target: Target) -> None:
    """prompt_tokens counts every message."""
    turn = [user("Name a colour."), {"role": "assistant", "content": "Blue is a colour."}]
    counts = [await target.n_prompt_tokens([*turn * n, user("Bye.")]) for n in (0, 1, 2)]
    expect(counts[1] - counts[0] >= 6 and counts[2] - counts[1] >= 6, "growth with each turn", counts)


@check(12)
async def counts_the_tools(target: Target) -> None:
    """prompt_tokens counts the tools."""
    await target.need_tools()
    without, with_tools = await target.n_prompt_tokens(HELLO), await target.n_prompt_tokens(HELLO, tools=TOOLS)
    expect(with_tools >= without + 20, "at least 20 tokens more with two tools", f"{without} and {with_tools}")


@check(12)
async def streamed_is_the_same(target: Target) -> None:
    """A stream's usage is that of the whole answer."""
    usage = (await target.chat(COUNT))["usage"]
    streamed = (await target.stream(COUNT, stream_options={"include_usage": True})).chunks[-1]["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        expect_equal(name, streamed[name], usage[name])


@check(12)
async def prompt_counts_once(target: Target) -> None:
    """With n 2, the prompt counts once."""
    one, two = [(await target.chat(COUNT, n=n, max_tokens=2))["usage"]["prompt_tokens"] for n in (1, 2)]
    expect_equal("prompt_tokens", two, one)


@check(12)
async def new_prompt_is_not_cached(target: Target) -> None:
    """cached_tokens is near 0 for a prompt that nobody sent before."""
    usage = (await target.chat(random_words(60), max_tokens=1))["usage"]
    cached = cached_tokens(usage)
    expect(cached <= usage["prompt_tokens"] // 3, f"few of {usage['prompt_tokens']}", cached)


@check(12)
async def repeated_prompt_is_cached(target: Target) -> None:
    """cached_tokens is most of a prompt that is sent again, whole and streamed."""
    prompt = random_words(60)
    await target.chat(prompt, max_tokens=1)
    usage = (await target.chat(prompt, max_tokens=1))["usage"]
    streamed = await target.stream(prompt, max_tokens=1, stream_options={"include_usage": True})
    for found in (usage, streamed.chunks[-1]["usage"]):
        cached, prompt_tokens = cached_tokens(found), found["prompt_tokens"]
        expect(0.8 * prompt_tokens <= cached <= prompt_tokens, f"most of {prompt_tokens}", cached)


@check(12)
async def conversation_is_cached(target: Target) -> None:
    """In a conversation, what came before is cached."""
    system = {"role": "system", "content": random_words(60)}
    answer = await target.chat([system, user(HELLO)])
    message = {"role": "assistant", "content": answer["choices"][0]["message"]["content"]}
    usage = (await target.chat([system, user(HELLO), message, user("Again.")], max_tokens=1))["usage"]
    before = answer["usage"]["prompt_tokens"]
    expect(cached_tokens(usage) >= 0.8 * before, f"most of the {before} tokens before", usage)


@check(12)
async def client_reads_usage(target: Target) -> None:
    """The official client reads the counts."""
    usage = (await target.ask(COUNT, max_tokens=3)).usage
    expect_equal("completion_tokens", usage.completion_tokens, 3)
    expect(isinstance(usage.prompt_tokens_details.cached_tokens, int), "cached_tokens", usage)
