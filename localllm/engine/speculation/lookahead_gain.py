"""How many tokens a lookahead step brings, learned by its size: for the engine, and for each stream on top of that."""

from __future__ import annotations

import math

from localllm.engine.speculation.lookahead import LookaheadSize

SIZE_PRIORS = {
    LookaheadSize(5, 3, 5): 1.35,
    LookaheadSize(7, 4, 7): 1.45,
    LookaheadSize(15, 5, 8): 1.6,
}
"""Sizes that are tried where lookahead is not forced, and the tokens a step that each brings before anything is known.
The last takes all of the rows that a context has for drafts."""
_PRIOR_WEIGHT = 16.0
"""The prior counts like so many steps."""
_SHARED_WEIGHT = 12.0
"""What other streams showed counts like so many steps of this one."""
_SHARED_MAX = 1024.0
_OWN_MAX = 64.0
"""From so many steps on, the old ones count half."""
_FORGET = 0.1
_HOPE = 0.5
"""Tokens a step that are added to what is expected of a size that nobody has tried; less with every try."""
_SHARED_SHARE = 0.1
"""Of other streams' tries, each counts like so many of this one's there."""


class LookaheadGain:
    """What one stream's lookahead steps brought."""

    __slots__ = ("n_steps", "n_tokens")

    def __init__(self) -> None:
        self.n_steps: dict[LookaheadSize, float] = {}
        self.n_tokens: dict[LookaheadSize, float] = {}

    def count(self, size: LookaheadSize, n_tokens: int) -> None:
        """Learn that a step brought so many tokens, the one that it would have brought anyway included."""
        tokens, steps = self.n_tokens.get(size, 0.0) + n_tokens, self.n_steps.get(size, 0.0) + 1.0
        half = 0.5 if steps > _OWN_MAX else 1.0
        self.n_tokens[size], self.n_steps[size] = tokens * half, steps * half


class SharedGains:
    """What a new stream begins with, learned from all streams."""

    def __init__(self) -> None:
        self._means = dict(SIZE_PRIORS)
        self._weights = dict.fromkeys(SIZE_PRIORS, _PRIOR_WEIGHT)

    def expected(self, own: LookaheadGain, size: LookaheadSize) -> float:
        """Return the tokens a step that a stream with such experience can expect, at least 1."""
        steps = own.n_steps.get(size, 0.0)
        return (own.n_tokens.get(size, 0.0) + _SHARED_WEIGHT * self._means[size]) / (steps + _SHARED_WEIGHT)

    def hoped(self, own: LookaheadGain, size: LookaheadSize) -> float:
        """Return what is expected with what it may be more: a few unlucky steps do not end it.

        Source: upper confidence bounds (Auer et al. 2002), with a constant of our own.
        """
        n_shared = self._weights[size] - _PRIOR_WEIGHT
        n_tries = own.n_steps.get(size, 0.0) + _SHARED_SHARE * n_shared
        return self.expected(own, size) + _HOPE / math.sqrt(1.0 + n_tries)

    def count(self, size: LookaheadSize, n_tokens: int) -> None:
        """Learn from any stream's step; sizes that are never chosen here are not counted."""
        if size in self._means:
            weight = self._weights[size] = min(self._weights[size] + 1.0, _SHARED_MAX)
            self._means[size] += (n_tokens - self._means[size]) / weight

    def forget(self, own: LookaheadGain) -> None:
        """Move what was learned towards the priors, so that a size that did not pay is tried again some time."""
        for size, prior in SIZE_PRIORS.items():
            self._means[size] += _FORGET * max(prior - self._means[size], 0.0)
        for counts in (own.n_steps, own.n_tokens):
            for size in counts:
                counts[size] /= 2
