"""One choice for each of many things, with the least loss that a budget allows: the multiple-choice knapsack.

Exact dynamic programming over a budget cut into units (sizes are rounded up to whole ones, so the budget is kept), then
the bytes that rounding left over are spent on the upgrades that bring most for a byte.

Source: Kellerer, Pferschy, Pisinger 2004, "Knapsack Problems", section 11.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_UNITS = 1 << 16


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the ways to store a thing."""

    n_bytes: int
    loss: float


def least_bytes(options: Sequence[Sequence[Choice]]) -> int:
    """Return the bytes of the smallest choice of each."""
    return sum(min(choice.n_bytes for choice in choices) for choices in options)


def choose(options: Sequence[Sequence[Choice]], budget: int, *, n_units: int = N_UNITS) -> list[int]:
    """Return the index of the choice for each thing.

    The sum of their bytes is at most `budget`; the sum of their losses is the least, up to the rounding to units.

    Args:
        options: for each thing, at least one choice.
        budget: in bytes.
        n_units: that the budget above the smallest choices is cut into.

    Raises:
        ValueError: the smallest choices do not fit.
    """
    spare = budget - least_bytes(options)
    if spare < 0:
        raise ValueError(f"the smallest choices take {-spare} bytes more than the budget of {budget}")
    unit = max(1, math.ceil(spare / n_units))
    return _spend_rest(options, _by_units(options, spare // unit, unit), budget)


def _by_units(options: Sequence[Sequence[Choice]], n_units: int, unit: int) -> list[int]:
    """Dynamic programming: `least[u]` is the least loss of the things so far in at most u units."""
    least = np.zeros(n_units + 1)
    taken: list[NDArray[np.uint8]] = []
    for choices in options:
        smallest = min(choice.n_bytes for choice in choices)
        best, which = np.full(n_units + 1, np.inf), np.zeros(n_units + 1, dtype=np.uint8)
        for index, choice in enumerate(choices):
            n = -(-(choice.n_bytes - smallest) // unit)
            if n <= n_units:
                loss = least[: n_units + 1 - n] + choice.loss
                better = loss < best[n:]
                best[n:][better], which[n:][better] = loss[better], index
        least = best
        taken.append(which)
    return _traced(options, taken, n_units, unit)


def _traced(
    options: Sequence[Sequence[Choice]], taken: Sequence[NDArray[np.uint8]], n_units: int, unit: int
) -> list[int]:
    chosen, left = [], n_units
    for choices, which in zip(reversed(options), reversed(taken), strict=True):
        index = int(which[left])
        smallest = min(choice.n_bytes for choice in choices)
        left -= -(-(choices[index].n_bytes - smallest) // unit)
        chosen.append(index)
    return chosen[::-1]


def _spend_rest(options: Sequence[Sequence[Choice]], chosen: list[int], budget: int) -> list[int]:
    """Take upgrades that still fit, those that save most loss for a byte first."""
    left = budget - sum(choices[index].n_bytes for choices, index in zip(options, chosen, strict=True))
    while True:
        upgrades = [
            ((choices[now].loss - choice.loss) / max(choice.n_bytes - choices[now].n_bytes, 1), thing, index)
            for thing, (choices, now) in enumerate(zip(options, chosen, strict=True))
            for index, choice in enumerate(choices)
            if choice.loss < choices[now].loss and choice.n_bytes - choices[now].n_bytes <= left
        ]
        if not upgrades:
            return chosen
        _, thing, index = max(upgrades)
        left -= options[thing][index].n_bytes - options[thing][chosen[thing]].n_bytes
        chosen[thing] = index
