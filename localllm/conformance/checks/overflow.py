"""Point 10: a prompt that is longer than the context."""

from __future__ import annotations

import re

import openai

from localllm.conformance.check import Unmet, check, expect, expect_equal
from localllm.conformance.exchange import Answer
from localllm.conformance.forcing import HELLO, filler, user
from localllm.conformance.target import CHAT, Target, published_context


async def _too_long(target: Target) -> str:
    """Return a prompt that is a little longer than the context."""
    n_ctx = await target.n_ctx()
    return filler(n_ctx + max(n_ctx // 50, 64))


async def _overflow(target: Target) -> Answer:
    answer = await target.post_chat(await _too_long(target), max_tokens=1)
    expect(answer.status != 200, "a refusal", f"HTTP 200: {answer.text}")
    return answer


@check(10)
async def context_is_published(target: Target) -> None:
    """/v1/models says how long the context is."""
    card = await target.card(anew=True)
    expect(published_context(card) is not None, "context_length or the like", sorted(card))


@check(10)
async def is_refused(target: Target) -> None:
    """A prompt that is too long is HTTP 400; it is never cut in silence."""
    answer = await _overflow(target)
    expect_equal("the status", answer.status, 400)


@check(10)
async def has_the_code(target: Target) -> None:
    """The error's code is context_length_exceeded; agents shorten the conversation when they see it."""
    expect_equal("the code", (await _overflow(target)).error.get("code"), "context_length_exceeded")


@check(10)
async def has_the_type(target: Target) -> None:
    """The error's type is invalid_request_error."""
    expect_equal("the type", (await _overflow(target)).error.get("type"), "invalid_request_error")


@check(10)
async def names_the_numbers(target: Target) -> None:
    """The message names both numbers: the prompt's tokens, and the context that /v1/models publishes."""
    message = str((await _overflow(target)).error.get("message"))
    numbers = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", message)]
    n_ctx = await target.n_ctx()
    expect(n_ctx in numbers, f"{n_ctx} in the message", message)
    expect(any(number > n_ctx for number in numbers), "the prompt's tokens in the message", message)


@check(10)
async def is_refused_before_a_stream_begins(target: Target) -> None:
    """A streamed request gets HTTP 400 too, not a stream that holds an error."""
    body = target.body(await _too_long(target), max_tokens=1, stream=True)
    answer = await target.wire.post(CHAT, body)
    expect_equal("the status", answer.status, 400)


@check(10)
async def system_prompt_is_not_cut(target: Target) -> None:
    """Nor is a long conversation cut: neither its system prompt nor its oldest messages."""
    n_ctx = await target.n_ctx()
    piece = filler(n_ctx // 6 + 16)
    conversation = [{"role": "system", "content": piece}]
    for _ in range(3):
        conversation += [user(piece), {"role": "assistant", "content": piece}]
    answer = await target.post_chat([*conversation, user(HELLO)], max_tokens=1)
    expect_equal("the status", answer.status, 400)


@check(10)
async def completions_refuse_it(target: Target) -> None:
    """/v1/completions refuses it in the same way."""
    small = {"model": target.model, "prompt": "Hi", "max_tokens": 1}
    await target.need_path("/v1/completions", small)
    answer = await target.wire.post("/v1/completions", {**small, "prompt": await _too_long(target)})
    expect_equal("the status", answer.status, 400)
    expect_equal("the code", answer.error.get("code"), "context_length_exceeded")


@check(10)
async def client_raises_bad_request(target: Target) -> None:
    """The official client raises BadRequestError, whose code agents read."""
    try:
        await target.ask(await _too_long(target), max_tokens=1)
    except openai.BadRequestError as error:
        expect_equal("the code", error.code, "context_length_exceeded")
    else:
        raise Unmet("BadRequestError", "an answer")


@check(10)
async def answer_may_fill_the_context(target: Target) -> None:
    """A max_tokens beyond the context is no reason to refuse a short prompt."""
    n_ctx = await target.n_ctx()
    answer = await target.post_chat(HELLO, max_tokens=n_ctx * 2, stop=["e", "a", "i", "o", "u", " "])
    answer.ok()
