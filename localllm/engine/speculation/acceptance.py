"""How often proposed tokens are right, learned by grade: for the engine, and for each stream on top of that.

A grade says how certain a drafter is of one token, given that the ones before it were right. So the probability that
the first n tokens of a draft are all accepted is the product of their grades' rates.
"""

from __future__ import annotations

from collections.abc import Sequence

_PRIOR_WEIGHT = 16.0
"""The prior counts like so many tokens."""
_SHARED_WEIGHT = 12.0
"""What other streams showed counts like so many tokens of this one."""
_SHARED_MAX = 2048.0
_OWN_MAX = 96.0
"""From so many tokens of a grade on, the old ones count half."""


class SharedRates:
    """The rates that a new stream begins with, learned from all streams.

    Args:
        priors: of each grade, before anything is known.
    """

    def __init__(self, priors: Sequence[float]) -> None:
        self._hits = [_PRIOR_WEIGHT * p for p in priors]
        self._counts = [_PRIOR_WEIGHT] * len(priors)

    def __len__(self) -> int:
        return len(self._hits)

    def rate(self, grade: int) -> float:
        return self._hits[grade] / self._counts[grade]

    def count(self, grade: int, is_hit: bool) -> None:
        self._hits[grade] += is_hit
        self._counts[grade] += 1.0
        if self._counts[grade] > _SHARED_MAX:
            self._hits[grade] /= 2
            self._counts[grade] /= 2


class Acceptance:
    """The rates of one stream."""

    def __init__(self, shared: SharedRates) -> None:
        self._shared = shared
        self._hits = [0.0] * len(shared)
        self._counts = [0.0] * len(shared)
        self._rates = [shared.rate(grade) for grade in range(len(shared))]
        self.was_right = False
        """Whether the last token was proposed rightly."""

    def rate(self, grade: int) -> float:
        """Return the probability that a token of this grade is right."""
        return self._rates[grade]

    def count(self, grade: int, is_hit: bool) -> None:
        """Learn that a proposed token of this grade was right, or was not."""
        self.was_right = is_hit
        self._shared.count(grade, is_hit)
        hits, count = self._hits[grade] + is_hit, self._counts[grade] + 1.0
        if count > _OWN_MAX:
            hits, count = hits / 2, count / 2
        self._hits[grade], self._counts[grade] = hits, count
        self._rates[grade] = self._rate(grade)

    def relax(self) -> None:
        """Trust what was counted less: it is long ago."""
        for grade, count in enumerate(self._counts):
            if count:
                self._hits[grade] /= 2
                self._counts[grade] /= 2
                self._rates[grade] = self._rate(grade)

    def survival(self, grades: Sequence[int]) -> list[float]:
        """Return, for each n, the probability that the first n tokens of a draft are all right."""
        survival, product, rates = [], 1.0, self._rates
        for grade in grades:
            product *= rates[grade]
            survival.append(product)
        return survival

    def _rate(self, grade: int) -> float:
        shared = _SHARED_WEIGHT * self._shared.rate(grade)
        return (self._hits[grade] + shared) / (self._counts[grade] + _SHARED_WEIGHT)
