"""Point 14: clients that hang up, and streams that have nothing to say yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from localllm.conformance.check import NotApplicable, check, expect, need
from localllm.conformance.exchange import Json
from localllm.conformance.forcing import COUNT, FORCED_TOKEN, HELLO, random_words
from localllm.conformance.target import CHAT, Target, published_context

_N_HANG_UPS = 12
_MAX_PREFILL_WORDS = 6000
_TOKENS_A_WORD = 5


async def _endless(target: Target, prompt: str = COUNT, *, stream: bool) -> Json:
    """Return the body of a request that runs for as long as the context lasts."""
    n_ctx = published_context(await target.card()) or 4096
    return target.body(prompt, stream=stream, max_tokens=min(n_ctx // 2, 8000), **FORCED_TOKEN)


async def _hang_up_after(target: Target, n_pieces: int) -> None:
    """Begin to read an endless stream, and hang up."""
    async with target.wire.open("POST", CHAT, await _endless(target, stream=True)) as response:
        expect(response.status_code == 200, "HTTP 200", f"HTTP {response.status_code}")
        async for _ in response.aiter_bytes():
            n_pieces -= 1
            if n_pieces <= 0:
                return
    raise NotApplicable("the answer was complete before the client hung up")


async def _n_running(target: Target) -> int:
    return need(await target.n_running(), "neither /metrics nor /slots says how many requests are computed")


async def _until(holds: Callable[[int], bool], n_running: Callable[[], Awaitable[int]], within_s: float) -> bool:
    """Whether the number of running requests comes to be as it should in time."""
    until = time.monotonic() + within_s
    while not holds(await n_running()):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.05)
    return True


async def _expect_cancelled(target: Target, begin: Callable[[], Awaitable[object]]) -> None:
    """Raise Unmet unless what `begin` starts runs, and is gone soon after its client is."""
    before = await _n_running(target)
    client = asyncio.ensure_future(begin())
    try:
        runs = await _until(lambda n: n > before, lambda: _n_running(target), target.patience.request_s / 4)
    finally:
        client.cancel()
        with suppress(asyncio.CancelledError):
            await client
    if not runs:
        raise NotApplicable("the server never said that it computes the request")
    within_s = target.patience.cancel_s
    is_gone = await _until(lambda n: n <= before, lambda: _n_running(target), within_s)
    expect(is_gone, f"the request to end within {within_s:g} s of the hang-up", "it still runs")


@check(14)
async def cancelled_in_mid_stream(target: Target) -> None:
    """A stream whose client hangs up is cancelled at once."""
    before = await _n_running(target)
    await _hang_up_after(target, 3)
    within_s = target.patience.cancel_s
    is_gone = await _until(lambda n: n <= before, lambda: _n_running(target), within_s)
    expect(is_gone, f"the request to end within {within_s:g} s of the hang-up", "it still runs")


@check(14)
async def cancelled_without_a_stream(target: Target) -> None:
    """So is an answer that is not streamed."""
    body = await _endless(target, stream=False)
    await _expect_cancelled(target, lambda: target.wire.post(CHAT, body))


@check(14)
async def cancelled_in_the_prompt(target: Target) -> None:
    """So is one whose long prompt is still being read."""
    n_ctx = published_context(await target.card()) or 4096
    prompt = random_words(min(n_ctx // 2 // _TOKENS_A_WORD, _MAX_PREFILL_WORDS))
    body = target.body(prompt, stream=True, max_tokens=n_ctx // 4, **FORCED_TOKEN)
    await _expect_cancelled(target, lambda: target.wire.stream(CHAT, body))


@check(14)
async def next_request_is_not_late(target: Target) -> None:
    """After many clients hung up, the next request is answered as fast as before."""
    baseline_s = await _time_s(target)
    await asyncio.gather(*(_hang_up_after(target, 1 + i % 4) for i in range(_N_HANG_UPS)))
    after_s, allowed_s = await _time_s(target), 3 * baseline_s + target.patience.cancel_s
    expect(after_s <= allowed_s, f"an answer within {allowed_s:.1f} s", f"{after_s:.1f} s")


@check(14)
async def silence_is_broken(target: Target) -> None:
    """While a long prompt is read, the stream sends comments, so that nobody takes it for dead."""
    n_ctx = await target.n_ctx()
    prompt = random_words(min(int(0.8 * n_ctx / _TOKENS_A_WORD), _MAX_PREFILL_WORDS))
    longest_s = target.patience.silence_s
    started = time.monotonic()
    async with target.wire.open("POST", CHAT, target.body(prompt, stream=True, max_tokens=2)) as response:
        expect(response.status_code == 200, "HTTP 200", f"HTTP {response.status_code}")
        pieces = response.aiter_bytes()
        try:
            async with asyncio.timeout(max(started + longest_s - time.monotonic(), 0.01)):
                first = await anext(pieces)
        except TimeoutError:
            expect(False, f"a sign of life within {longest_s:g} s", "silence")
    if not first.startswith(b":"):
        took_s = time.monotonic() - started
        raise NotApplicable(f"the longest prompt was read in {took_s:.1f} s, too fast to need a sign of life")


async def _time_s(target: Target) -> float:
    started = time.monotonic()
    await target.chat(HELLO, max_tokens=2)
    return time.monotonic() - started
