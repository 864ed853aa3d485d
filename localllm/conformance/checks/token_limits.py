"""Point 4: max_tokens and max_completion_tokens."""

from __future__ import annotations

from typing import Any

from localllm.conformance.check import check, expect, expect_equal
from localllm.conformance.forcing import COUNT, HELLO, only
from localllm.conformance.target import Target

_N = 5


async def _check_whole(target: Target, **limits: Any) -> None:
    answer = await target.chat(COUNT, **limits)
    expect_equal("completion_tokens", answer["usage"]["completion_tokens"], _N)
    expect_equal("the finish reason", answer["choices"][0]["finish_reason"], "length")


async def _check_streamed(target: Target, **limits: Any) -> None:
    stream = await target.stream(COUNT, stream_options={"include_usage": True}, **limits)
    expect_equal("completion_tokens", stream.chunks[-1]["usage"]["completion_tokens"], _N)
    expect_equal("the finish reason", stream.finish_reason(), "length")


@check(4)
async def max_tokens_whole(target: Target) -> None:
    """max_tokens ends an answer after so many tokens."""
    await _check_whole(target, max_tokens=_N)


@check(4)
async def max_tokens_streamed(target: Target) -> None:
    """So it does in a stream."""
    await _check_streamed(target, max_tokens=_N)


@check(4)
async def max_completion_tokens_whole(target: Target) -> None:
    """max_completion_tokens, its newer name, works alone.

    Newer clients send only this one; a server that ignores it answers without end.
    """
    await _check_whole(target, max_tokens=None, max_completion_tokens=_N)


@check(4)
async def max_completion_tokens_streamed(target: Target) -> None:
    """So it does in a stream."""
    await _check_streamed(target, max_tokens=None, max_completion_tokens=_N)


@check(4)
async def null_is_no_limit(target: Target) -> None:
    """A limit of null is as one that was left out: the answer runs to its end."""
    await target.need_schemas()
    words = "and so on " * 12
    text = await target.text(HELLO, max_tokens=None, max_completion_tokens=None, **only(words))
    expect(words in text, "the whole text", text)


@check(4)
async def client_sends_either(target: Target) -> None:
    """The official client's answers have the count and the reason."""
    answer = await target.ask(COUNT, max_tokens=None, max_completion_tokens=_N)
    expect_equal("completion_tokens", answer.usage.completion_tokens, _N)
    expect_equal("the finish reason", answer.choices[0].finish_reason, "length")


@check(4)
async def nonsense_is_refused(target: Target) -> None:
    """A limit that is no number is HTTP 400."""
    answer = await target.post_chat(COUNT, max_tokens="many")
    expect(answer.status == 400, "HTTP 400", f"HTTP {answer.status}: {answer.text}")
