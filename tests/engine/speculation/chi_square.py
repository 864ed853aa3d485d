"""Pearson's chi-square test, without SciPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

MIN_EXPECTED = 5.0
"""Cells that are expected less often are put together: the test's approximation needs so many."""


def p_value(counts: ArrayLike, p: ArrayLike) -> float:
    """Return the chance of counts at least so far from the distribution, if they are drawn from it.

    Args:
        counts: of each outcome: [n].
        p: of each outcome: [n], with sum 1. Where it is 0, a count is impossible.
    """
    observed, probabilities = np.asarray(counts, dtype=np.float64), np.asarray(p, dtype=np.float64)
    if observed[probabilities == 0].any():
        return 0.0
    expected = observed.sum() * probabilities
    rare = expected < MIN_EXPECTED
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    kept = expected > 0
    statistic = float((np.square(observed - expected)[kept] / expected[kept]).sum())
    return tail(statistic, int(kept.sum()) - 1)


def tail(x: float, n: int) -> float:
    """Return P(X > x) for chi-square X with `n` degrees of freedom.

    Source: Wilson and Hilferty 1931: the cube root of X/n is nearly normal.
    """
    if n <= 0:
        return 1.0
    mean, deviation = 1 - 2 / (9 * n), math.sqrt(2 / (9 * n))
    return 0.5 * math.erfc((math.cbrt(x / n) - mean) / deviation / math.sqrt(2))
