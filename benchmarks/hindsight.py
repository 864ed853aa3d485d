"""The best that any lookup could have done, for an output that is known: which spans to copy, and how long.

At each position the longest span that occurs earlier, in prompt or output, may be drafted in full or in part, and costs
a batch of its width; nothing is ever drafted wrong. Dynamic programming finds the cheapest way to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def longest_earlier(tokens: Sequence[int]) -> NDArray[np.int64]:
    """Return, for each position, how many tokens from there on also follow an earlier position (which may overlap)."""
    ids = np.asarray(tokens)
    n = len(ids)
    longest = np.zeros(n, dtype=np.int64)
    common = np.zeros(n + 1, dtype=np.int64)
    for i in range(n - 1, -1, -1):
        common[:n] = np.where(ids == ids[i], common[1 : n + 1] + 1, 0)
        longest[i] = common[:i].max(initial=0)
    return longest


def best_speedup(
    prompt: Sequence[int], output: Sequence[int], cost: Callable[[int], float], max_width: int = 48
) -> tuple[float, float]:
    """Return the speed-ups over one token a step: of the best lookup, and of an oracle that always knows what comes.

    Args:
        prompt: tokens.
        output: tokens, all chosen by the model.
        cost: of a batch of a width, over that of width 1.
        max_width: widest batch.
    """
    longest = longest_earlier([*prompt, *output])[len(prompt) :]
    return _speedup(longest, cost, max_width), _speedup(np.full(len(output), len(output)), cost, max_width)


def _speedup(longest: NDArray[np.int64], cost: Callable[[int], float], max_width: int) -> float:
    n = len(longest)
    costs = [0.0] + [cost(width) for width in range(1, max_width + 1)]
    # least[i]: cheapest way to have all tokens from i on, where token i - 1 is the last that was chosen.
    least = np.zeros(n + 1)
    for i in range(n - 1, -1, -1):
        width = int(min(longest[i] + 1, max_width, n - i))
        least[i] = min(costs[w] + least[i + w] for w in range(1, width + 1))
    return n * costs[1] / float(least[0])
