"""Part (c): a long prompt arrives while four streams run. Do they stay smooth, and how long does the newcomer wait?"""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

import numpy as np
from intervals import median_interval, ratio_interval
from ours import Ours, Settings, open_ours
from peer import Peer
from prompts import Prompts
from report import PartResult

from localllm.llama import Model

N_STREAMS = 4
N_STREAM_PROMPT = 32
N_NEW_PROMPT = 1500
N_NEW_TOKENS = 8
_STEADY_S = 1.0
_SETTLE_S = 0.3
MAX_GAP = 4.0
MAX_TTFT_RATIO = 1.3


def gaps(times: list[list[float]], steady_s: float, arrival_s: float, first_s: float) -> dict[str, float]:
    """Compare the gaps between a stream's tokens before an arrival with those during its prefill.

    Args:
        times: of each stream's tokens.
        steady_s: when all streams ran.
        arrival_s: when the newcomer was submitted.
        first_s: when it had its first token.
    """
    before: list[float] = []
    during: list[float] = []
    for stream in times:
        for a, b in itertools.pairwise(stream):
            if a >= steady_s and b <= arrival_s:
                before.append(b - a)
            elif b > arrival_s and a < first_s:
                during.append(b - a)
    median = statistics.median(before)
    return {
        "median_before_s": median,
        "max_before_s": max(before),
        "median_during_s": statistics.median(during),
        "p99_during_s": float(np.quantile(during, 0.99)),
        "max_during_s": max(during),
        "max_ratio": max(during) / median,
        "p99_ratio": float(np.quantile(during, 0.99)) / median,
    }


def _turn_ours(ours: Ours, prompts: Prompts) -> dict[str, Any]:
    running = [ours.start(prompts.noise(N_STREAM_PROMPT), 4000 // N_STREAMS) for _ in range(N_STREAMS)]
    for stream in running:
        stream.wait_first()
    steady_s = time.perf_counter()
    time.sleep(_STEADY_S)
    before = ours.stats()
    new = ours.run(prompts.noise(N_NEW_PROMPT), N_NEW_TOKENS)
    time.sleep(_SETTLE_S)
    after = ours.stats()
    for stream in running:
        ours.cancel(stream.request_id)
    for stream in running:
        stream.wait()
    return {
        "ttft_s": new.ttft_s,
        "ttft_seen_s": new.seen_s[0] - new.started_s,
        "n_steps": after.n_steps - before.n_steps,
        "engine": gaps([s.made_s for s in running], steady_s, new.started_s, new.made_s[0]),
        "consumer": gaps([s.seen_s for s in running], steady_s, new.started_s, new.seen_s[0]),
    }


def _turn_peer(peer: Peer, prompts: Prompts) -> dict[str, Any]:
    running = [peer.start(prompts.noise(N_STREAM_PROMPT), 4000 // N_STREAMS) for _ in range(N_STREAMS)]
    for stream in running:
        stream.has_first.wait()
    steady_s = time.perf_counter()
    time.sleep(_STEADY_S)
    new = peer.run(prompts.noise(N_NEW_PROMPT), N_NEW_TOKENS)
    time.sleep(_SETTLE_S)
    for stream in running:
        stream.cancel()
    for stream in running:
        stream.wait()
    peer.run(prompts.noise(4), 1)
    return {
        "ttft_s": new.ttft_s,
        "consumer": gaps([s.times_s for s in running], steady_s, new.started_s, new.times_s[0]),
    }


def run(settings: Settings, model: Model, n_turns: int) -> PartResult:
    result = PartResult(
        f"(c) A prompt of {N_NEW_PROMPT} tokens arrives while {N_STREAMS} streams run, {n_turns} turns, "
        f"ours in {'a worker process' if settings.worker else 'this process'}"
    )
    prompts = Prompts(model.vocab, settings.seed + 2)
    turns: list[dict[str, dict[str, Any]]] = []
    with open_ours(settings, model) as ours, Peer(settings) as peer:
        for i in range(n_turns):
            turn: dict[str, dict[str, Any]] = {}
            for side in ("ours", "peer") if i % 2 else ("peer", "ours"):
                turn[side] = _turn_ours(ours, prompts) if side == "ours" else _turn_peer(peer, prompts)
            turns.append(turn)
    _report(result, turns)
    result.raw["turns"] = turns
    return result


def _report(result: PartResult, turns: list[dict[str, dict[str, Any]]]) -> None:
    ours = [t["ours"] for t in turns]
    peer = [t["peer"] for t in turns]
    ms = "{:.1f} ms".format
    result.add("ours: median gap before", ms(1e3 * statistics.median(t["engine"]["median_before_s"] for t in ours)))
    result.add(
        "ours: longest/median gap before, no prompt",
        _spread([t["engine"]["max_before_s"] / t["engine"]["median_before_s"] for t in ours]),
    )
    for where in ("engine", "consumer"):
        for key, name in (("max_ratio", "longest"), ("p99_ratio", "99 %")):
            result.add(f"ours: {name} gap in prefill / median before, {where}", _spread([t[where][key] for t in ours]))
    result.add("peer: longest gap in prefill / median before", _spread([t["consumer"]["max_ratio"] for t in peer]))
    result.add("ours: longest gap", ms(1e3 * max(t["engine"]["max_during_s"] for t in ours)))
    result.add("peer: longest gap", ms(1e3 * max(t["consumer"]["max_during_s"] for t in peer)))
    result.add("ours: time to first token, s", _spread([t["ttft_seen_s"] for t in ours]))
    result.add("peer: time to first token, s", _spread([t["ttft_s"] for t in peer]))
    result.add("ours: steps for the prompt", _spread([t["n_steps"] for t in ours]))
    ratios = [a["ttft_seen_s"] / b["ttft_s"] for a, b in zip(ours, peer, strict=True)]
    result.add("time to first token ours/peer", ratio_interval(ratios))
    longest = [t["engine"]["max_ratio"] for t in ours]
    n_held = sum(r <= MAX_GAP for r in longest)
    result.judge(
        "longest gap of a running stream",
        f"≤ {MAX_GAP:g} × its median gap, every turn",
        f"{max(longest):.2f} at most; held in {n_held} of {len(longest)} turns",
        n_held == len(longest),
    )
    median, low, high = median_interval(ratios)
    result.judge(
        "time to first token ours/peer",
        f"median ≤ {MAX_TTFT_RATIO}",
        f"{median:.2f} [{low:.2f}, {high:.2f}]",
        median <= MAX_TTFT_RATIO,
    )


def _spread(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f}, {min(values):.2f} to {max(values):.2f}"
