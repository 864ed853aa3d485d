"""Second moments of activations: H = XᵀX, added up as the rows come.

Float32 throughout, by BLAS: H is a sum over many tokens of products whose own spread is far above 2⁻²⁴, and it is
shrunk and damped before use. Only the diagonal is also added up in float64, and replaces the other at the end, so
that it is exactly what an importance matrix of the same text says. Only the upper triangle is computed, in panels,
which halves the work and needs no second matrix of the size of H.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.inputs import Seen
from localllm.gradients.gram import add_gram, mirror_upper

ROWS_MIN = 512
"""Rows that are worth going through H for; an expert's are kept until there are as many."""

Matrix = NDArray[np.float32]


def moment_bytes(n_cols: int, n_ctx: int, share: float) -> int:
    """Return an upper bound of the memory of one `MomentSum`, if each matrix reads about its share of the tokens."""
    n_new = math.ceil(n_ctx * share)
    n_rows = n_new if n_new >= ROWS_MIN else n_new + ROWS_MIN
    # Rows of several micro-batches are joined, which takes them twice.
    return 4 * n_cols * (n_cols + 2 * n_rows)


class MomentSum:
    """H of one matrix, while its rows come.

    What is added, in which order and in what blocks depends on the rows alone, so the same text gives the same bytes.
    """

    def __init__(self, n_cols: int) -> None:
        self._h: Matrix = np.zeros((n_cols, n_cols), dtype=np.float32)
        self._diagonal = np.zeros(n_cols, dtype=np.float64)
        self._waiting: list[Matrix] = []
        self._n_waiting = 0
        self.n_rows = 0

    def add(self, seen: Seen) -> None:
        """Keep rows for `settle`, which computes."""
        self._diagonal += seen.squares
        self._waiting.append(seen.rows)
        self._n_waiting += len(seen.rows)
        self.n_rows += len(seen.rows)

    def settle(self, *, all_rows: bool = False) -> None:
        """Add the kept rows to H if they are enough, or in any case."""
        if self._n_waiting >= (1 if all_rows else ROWS_MIN):
            rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
            add_gram(self._h, rows)
            self._waiting.clear()
            self._n_waiting = 0

    def finish(self) -> Matrix:
        """Return H, symmetric, [n_cols, n_cols] float32; the sum is over after that."""
        self.settle(all_rows=True)
        mirror_upper(self._h)
        np.fill_diagonal(self._h, self._diagonal)
        return self._h
