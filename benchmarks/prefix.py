"""Part (d): a second request that starts like the first, its prefix hot in the KV cache or moved to RAM."""

from __future__ import annotations

import statistics
from typing import Any

from intervals import median_interval
from ours import Ours, Settings, Stream, open_ours
from prompts import Prompts
from report import PartResult

from localllm.llama import Model

N_PREFIX = 1000
_N_TAIL = 8
_N_TOKENS = 4
MIN_CACHED = 0.99
MAX_TTFT_RATIO = 0.15


def _displace(ours: Ours, prompts: Prompts) -> None:
    """Run other requests until the idle prefixes have moved to RAM."""
    streams = [ours.start(prompts.noise(64), 8, cache_prompt=True) for _ in range(4)]
    for stream in streams:
        stream.wait()


def _cached(stream: Stream) -> int:
    assert stream.finish is not None
    return stream.finish.usage.cached_tokens


def _turn(ours: Ours, prompts: Prompts, *, in_ram: bool) -> dict[str, Any]:
    prefix = prompts.noise(N_PREFIX)
    first = ours.run(prefix + prompts.noise(_N_TAIL), _N_TOKENS, cache_prompt=True)
    before = ours.stats()
    if in_ram:
        _displace(ours, prompts)
    moved = ours.stats().host_cache_bytes - before.host_cache_bytes
    second = ours.run(prefix + prompts.noise(_N_TAIL), _N_TOKENS, cache_prompt=True)
    return {
        "first_ttft_s": first.ttft_s,
        "second_ttft_s": second.ttft_s,
        "ratio": second.ttft_s / first.ttft_s,
        "cached": _cached(second),
        "first_cached": _cached(first),
        "moved_bytes": moved,
    }


def run(settings: Settings, model: Model, n_turns: int) -> PartResult:
    result = PartResult(f"(d) A prefix of {N_PREFIX} tokens again, {n_turns} turns")
    prompts = Prompts(model.vocab, settings.seed + 3)
    with open_ours(settings, model) as ours:
        for place in ("hot", "in RAM"):
            turns = [_turn(ours, prompts, in_ram=place == "in RAM") for _ in range(n_turns)]
            _report(result, place, turns)
            result.raw[place] = turns
    return result


def _report(result: PartResult, place: str, turns: list[dict[str, Any]]) -> None:
    shares = [t["cached"] / N_PREFIX for t in turns]
    median, low, high = median_interval([t["ratio"] for t in turns])
    first, second = (1e3 * statistics.median(t[f"{k}_ttft_s"] for t in turns) for k in ("first", "second"))
    result.add(f"{place}: first, second time to first token", f"{first:.0f}, {second:.1f} ms")
    result.add(f"{place}: cached share, least", f"{min(shares):.1%}")
    if place == "in RAM":
        result.add(
            f"{place}: moved to RAM between", f"{sum(t['moved_bytes'] > 0 for t in turns)} of {len(turns)} turns"
        )
    result.judge(
        f"cached share of the prefix, {place}", f"≥ {MIN_CACHED:.0%}", f"{min(shares):.1%}", min(shares) >= MIN_CACHED
    )
    result.judge(
        f"time to first token second/first, {place}",
        f"median's upper 95 % bound ≤ {MAX_TTFT_RATIO}",
        f"{median:.3f} [{low:.3f}, {high:.3f}]",
        high <= MAX_TTFT_RATIO,
    )
