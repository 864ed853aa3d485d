"""Explaining the first difference between two runs of one request: was it a near-tie that rounding decided?

Wider batches take other kernels, and kept cells lie in other places, so logits differ in their last digits. The two
runs share every token up to the first difference, so there both saw the same distribution but for that rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localllm.engine import TokenEvent


@dataclass(frozen=True)
class Difference:
    """The first position at which two runs differ."""

    position: int
    drift: float
    """Largest change of a candidate's logprob between the runs there."""
    distance: float
    """Greedy: the gap between the two tokens' logprobs. Sampled: from the draw to the boundary it fell across."""


def greedy_difference(alone: list[TokenEvent], among: list[TokenEvent]) -> Difference | None:
    """Compare two greedy runs with 20 logprobs each."""
    for k, (a, b) in enumerate(zip(alone, among, strict=False)):
        if a.token != b.token:
            lp = _logprobs(a)
            return Difference(k, _drift(a, b), abs(lp[a.token] - lp[b.token]))
    return None


def sampled_difference(
    alone: list[TokenEvent], among: list[TokenEvent], seed: int, temperature: float
) -> Difference | None:
    """Compare two runs sampled with top_k=20 and nothing else; every draw is computed anew, and must explain both.

    Source: llama-sampler.cpp, `llama_sampler_dist_apply`: one double of std::mt19937 a token, compared with the running
    sum over candidates from the most likely down.
    """
    draws = _draws(seed, len(alone))
    for k, (a, b) in enumerate(zip(alone, among, strict=False)):
        assert _pick(a, draws[k], temperature) == a.token
        assert _pick(b, draws[k], temperature) == b.token
        if a.token != b.token:
            sums = np.cumsum(_probabilities(a, temperature))
            return Difference(k, _drift(a, b), float(np.abs(sums - draws[k]).min()))
    return None


def _logprobs(event: TokenEvent) -> dict[int, float]:
    return {t.token: t.logprob for t in event.top_logprobs}


def _drift(a: TokenEvent, b: TokenEvent) -> float:
    other = _logprobs(b)
    return max(abs(t.logprob - other[t.token]) for t in a.top_logprobs if t.token in other)


def _draws(seed: int, n: int) -> np.ndarray:
    """Return std::uniform_real_distribution<double> of std::mt19937(seed): two 32-bit words a draw, low word first."""
    words = np.random.RandomState(seed)._bit_generator.random_raw(2 * n).astype(np.float64)  # type: ignore[attr-defined]
    return (words[0::2] + words[1::2] * 2.0**32) / 2.0**64


def _probabilities(event: TokenEvent, temperature: float) -> np.ndarray:
    logits = np.array([t.logprob for t in event.top_logprobs]) / temperature
    p = np.exp(logits - logits.max())
    return p / p.sum()


def _pick(event: TokenEvent, draw: float, temperature: float) -> int:
    sums = np.cumsum(_probabilities(event, temperature))
    return event.top_logprobs[min(int(np.searchsorted(sums, draw)), len(sums) - 1)].token
