"""Means of paired ratios with their intervals.

Two speeds measured in turns form a pair; the log of their ratio is the sample. Drift of the machine that is slower
than a pair cancels. The interval is Student's t on the log ratios, turned back into a ratio; it does not know of
correlation between neighbouring pairs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A ratio's geometric mean with its 95 % interval, its median, and the standard deviation of one log ratio."""

    n: int
    mean: float
    low: float
    high: float
    median: float
    sd: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] median {self.median:.3f} sd {self.sd:.3f} n {self.n}"

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """Return the interval of paired ratios, each above 0."""
    logs = [math.log(r) for r in ratios]
    n = len(logs)
    mean = statistics.fmean(logs)
    sd = statistics.stdev(logs) if n > 1 else math.nan
    half = t_quantile_975(n - 1) * sd / math.sqrt(n) if n > 1 else math.inf
    return Interval(
        n, math.exp(mean), math.exp(mean - half), math.exp(mean + half), math.exp(statistics.median(logs)), sd
    )


def median_interval(values: Sequence[float], seed: int = 0, n_draws: int = 4000) -> tuple[float, float, float]:
    """Return (median, low, high): the 95 % interval of the median by bootstrap."""
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(data, size=(n_draws, data.size)), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(np.median(data)), float(low), float(high)


def t_quantile_975(df: int) -> float:
    """Return Student's t at 0.975: exact for 1 and 2 degrees of freedom, else within 0.01.

    Source: Abramowitz and Stegun 26.7.5, the expansion around the normal quantile.
    """
    if df < 1:
        return math.inf
    if df <= 2:
        return (12.7062, 4.3027)[df - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / df + g2 / df**2 + g3 / df**3 + g4 / df**4
