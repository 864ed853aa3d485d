"""Error feedback the slow way: one row, one column at a time, float64, the formulas as in the papers."""

from __future__ import annotations

import numpy as np

from localllm.llama.encoding import decode, encode
from localllm.quantize.gptq.formats import BlockFormat, block_format


def conditioned(h: np.ndarray, shrinkage: float, damping: float) -> np.ndarray:
    """Return (1 - a) H + a diag(H) + damping · mean(diag(H)) · I: [n_cols, n_cols] float64."""
    diagonal = np.diag(np.diag(h))
    return (1 - shrinkage) * h + shrinkage * diagonal + damping * np.diag(h).mean() * np.eye(len(h))


def unit_upper(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return U + I and D of H = (U + I) D (U + I)ᵀ, by elimination from the last column."""
    n = len(h)
    rest, upper, pivots = h.astype(np.float64).copy(), np.eye(n), np.zeros(n)
    for k in reversed(range(n)):
        pivots[k] = rest[k, k]
        upper[:k, k] = rest[:k, k] / pivots[k]
        rest -= pivots[k] * np.outer(upper[:, k], upper[:, k])
    return upper, pivots


def feed_back(kind: str, row: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return what is stored for one row [n_cols], coded under H, [n_cols] float64, by GPTQ's own recursion.

    H⁻¹ in Cholesky form, and the error of each column divided by its diagonal, as in Frantar et al. 2023, algorithm 1.
    """
    fmt = block_format(kind)
    inverse = np.linalg.cholesky(np.linalg.inv(h)).T
    rest, stored = row.astype(np.float64).copy(), np.zeros(len(row))
    for start in range(0, len(row), fmt.block_size):
        block = slice(start, start + fmt.block_size)
        steps, offsets = searched_scales(fmt, rest[block], np.diag(h)[block])
        for k in range(start, start + fmt.block_size):
            step, offset = steps[k - start], offsets[k - start]
            stored[k] = nearest(fmt, rest[k], step, offset)
            rest[k:] -= (rest[k] - stored[k]) / inverse[k, k] * inverse[k, k:]
    return stored


def searched_scales(fmt: BlockFormat, block: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each weight's step and offset, found without the bit layout: by decoding what ggml encoded."""
    coded = encode(fmt.name, block[None].astype(np.float32), importance.astype(np.float32))
    parts = fmt.unpack(coded)
    low, high = (int(np.abs(fmt.levels).argmin()), len(fmt.levels) - 1)
    at = []
    for code in (low, high):
        parts.codes[:] = code
        at.append(decode(fmt.name, fmt.pack(parts))[0].astype(np.float64))
    steps = (at[1] - at[0]) / (fmt.levels[high] - fmt.levels[low])
    return steps, at[0] - steps * fmt.levels[low]


def nearest(fmt: BlockFormat, value: float, step: float, offset: float) -> float:
    """Return the nearest storable value."""
    choices = step * fmt.levels.astype(np.float64) + offset
    return float(choices[np.abs(choices - value).argmin()])


def proxy_loss(error: np.ndarray, h: np.ndarray) -> float:
    return float(sum(row @ h @ row for row in error.astype(np.float64)))
