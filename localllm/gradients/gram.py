"""XᵀX of rows that come in portions, by BLAS: only the upper triangle, in panels.

That halves the work, and needs no second matrix of the size of the sum.
"""

from __future__ import annotations

import numpy as np

from localllm.gradients.tensors import Array

PANEL = 256
"""Rows of the sum that are computed at once."""


def add_gram(h: Array, x: Array) -> None:
    """Add XᵀX to the upper triangle of H; below the diagonal, only within panels, is undefined.

    Args:
        h: [n_cols, n_cols], changed in place.
        x: [n_rows, n_cols], of the same type.
    """
    n_cols = x.shape[1]
    for start in range(0, n_cols, PANEL):
        end = min(start + PANEL, n_cols)
        h[start:end, start:] += x[:, start:end].T @ x[:, start:]


def mirror_upper(h: Array) -> None:
    """Copy the upper triangle of a square matrix over the lower one, in place."""
    n_cols = len(h)
    for start in range(0, n_cols, PANEL):
        end = min(start + PANEL, n_cols)
        block = h[start:end, start:end]
        block[:] = np.triu(block) + np.triu(block, 1).T
        h[end:, start:end] = h[start:end, end:].T
