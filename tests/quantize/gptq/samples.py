"""Weights and inputs that look like a model's."""

from __future__ import annotations

import numpy as np

from localllm.quantize.gptq import SecondMoments
from localllm.quantize.gptq.formats import FORMATS

KINDS = tuple(FORMATS)


def weights(n_rows: int = 6, n_cols: int = 512, seed: int = 0) -> np.ndarray:
    """Return [n_rows, n_cols] float32: heavier tails than a Gaussian's."""
    return (0.02 * np.random.default_rng(seed).standard_t(6, (n_rows, n_cols))).astype(np.float32)


def moments(n_cols: int = 512, n_tokens: int = 4000, rank: int = 40, seed: int = 0) -> SecondMoments:
    """Return the moments of inputs with a few strong directions and columns of lognormal size."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_tokens, rank)) @ rng.standard_normal((rank, n_cols)) / np.sqrt(rank)
    x = (x + rng.standard_normal((n_tokens, n_cols))) * rng.lognormal(0, 0.7, n_cols)
    x = x.astype(np.float32)
    return SecondMoments(x.T @ x, n_tokens)


def as_they_are(importance: np.ndarray) -> np.ndarray:
    """Return the order of the file: [n]."""
    return np.arange(len(importance))
