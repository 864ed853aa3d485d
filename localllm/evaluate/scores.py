"""What logits say about the tokens that came: log-likelihood and divergence, row by row, in NumPy.

This module knows nothing of models, chunks or llama.cpp. Natural logarithms throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_ROWS = 16
"""Rows that are computed at once: 16 of 150,000 logits are 19 MB as float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DivergenceScores:
    """How another model's distributions differ from the reference's, for each scored token."""

    kl: Floats
    """KL(reference ‖ other) in nats: [n] float64, 0 or more."""
    same_top: NDArray[np.bool_]
    """Whether both find the same token likeliest: [n]."""
    delta_p: Floats
    """Probability of the token that came, the other's minus the reference's: [n] float64."""

    @classmethod
    def concatenate(cls, parts: Sequence[DivergenceScores]) -> DivergenceScores:
        """Return the scores of several blocks as one."""
        return cls(
            np.concatenate([part.kl for part in parts]),
            np.concatenate([part.same_top for part in parts]),
            np.concatenate([part.delta_p for part in parts]),
        )


def log_softmax(logits: NDArray[np.float32]) -> Floats:
    """Return log p of each token: [n, n_vocab] float32 → [n, n_vocab] float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def target_log_probs(log_p: Floats, targets: NDArray[np.int64]) -> Floats:
    """Return the log p of the token that came: [n, n_vocab], [n] → [n]."""
    found: Floats = log_p[np.arange(len(targets)), targets]
    return found


def divergence(reference: Floats, other: Floats, targets: NDArray[np.int64]) -> DivergenceScores:
    """Compare two sets of log-probabilities.

    Every token of the vocabulary counts. llama-perplexity reads the reference's from a file, rounded to 16 bits, and
    leaves out those below e⁻¹⁶; so its values are a little off these.

    Args:
        reference: [n, n_vocab] float64, as `log_softmax` gives them.
        other: the same of the other model.
        targets: the tokens that came: [n].
    """
    p = np.exp(reference)
    with np.errstate(invalid="ignore"):
        terms = p * (reference - other)
    # A token that is impossible to the reference adds nothing; −∞ − −∞ is not a number.
    kl = np.where(p > 0, terms, 0.0).sum(axis=1)
    delta_p = np.exp(target_log_probs(other, targets)) - np.exp(target_log_probs(reference, targets))
    # A divergence is never negative (Gibbs); a sum of rounded terms may be, by 1e-16.
    return DivergenceScores(np.maximum(kl, 0.0), reference.argmax(axis=1) == other.argmax(axis=1), delta_p)
