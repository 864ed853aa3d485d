"""Accepting a draft's tokens so that what comes out has the target's distribution, whatever the draft's is.

A token x that was drawn from q is accepted with probability min(1, p(x)/q(x)); where it is not, one is drawn from the
residual norm(max(0, p - q)) instead. The outcome has distribution p exactly; it is x with probability sum(min(p, q)).
This holds only if x was drawn from q and is then always put to the test: to leave a drawn token out because of what it
is would change the distribution.

Pure functions on probability vectors: [n] float64, 0 or more, that sum to 1, entry by entry for the same tokens. It
knows no chains and no models.

Source: Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", algorithm 1, appendix A.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Distribution(NamedTuple):
    """The tokens that can be drawn, each once in any order, and their probabilities; all others have none."""

    tokens: NDArray[np.int32]
    p: Vector


def acceptance(p: Vector, q: Vector, x: int) -> float:
    """Return the probability that entry `x`, drawn from `q`, is accepted as one drawn from `p`."""
    return 1.0 if p[x] >= q[x] else float(p[x] / q[x])


def residual(p: Vector, q: Vector) -> Vector:
    """Return the distribution to draw from after a rejection: norm(max(0, p - q)).

    Where q is p but for rounding, nothing is left, and nothing is rejected but by rounding either: then it is p.
    """
    rest = np.maximum(p - q, 0.0)
    total = rest.sum()
    return rest / total if total > 0 else p


def draw(p: Vector, rng: np.random.Generator) -> int:
    """Draw an entry."""
    sums = np.cumsum(p)
    # To the right of equal sums, so that what has probability 0 is never drawn; the last sum may not be 1 exactly.
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))


def choose(p: Vector, q: Vector, x: int, rng: np.random.Generator) -> int:
    """Return `x`, which was drawn from `q`, or another entry, so that the outcome is drawn from `p`."""
    return x if rng.random() < acceptance(p, q, x) else draw(residual(p, q), rng)


def choose_token(target: Distribution, draft: Distribution, token: int, rng: np.random.Generator) -> int:
    """Return `token`, which was drawn from `draft`, or another, so that the outcome is drawn from `target`."""
    tokens = np.union1d(target.tokens, draft.tokens)
    p, q = _spread(target, tokens), _spread(draft, tokens)
    return int(tokens[choose(p, q, int(np.searchsorted(tokens, token)), rng)])


def _spread(distribution: Distribution, tokens: NDArray[np.int32]) -> Vector:
    """Return the probabilities of ascending `tokens`, which have all those of the distribution among them."""
    p = np.zeros(len(tokens))
    p[np.searchsorted(tokens, distribution.tokens)] = distribution.p
    return p
