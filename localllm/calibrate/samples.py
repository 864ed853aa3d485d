"""A few rows of every input, taken evenly from the text, to try what rounding them does."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.inputs import Seen

N_ROWS = 32
"""Of each input; of experts, all together. 8B weights have some 500,000 columns of inputs: 64 MB."""


class RowSamples:
    """Rows by input and matrix.

    Args:
        n_chunks: how many chunks will be read, so that each gives its share.
        n_rows: of each input at most.
    """

    def __init__(self, n_chunks: int, n_rows: int = N_ROWS) -> None:
        self._n_chunks = n_chunks
        self._n_rows = n_rows
        self._rows: dict[tuple[str, int], list[NDArray[np.float32]]] = {}

    def add(self, seen: Seen) -> None:
        """Keep some of the rows, those in the middle of equal parts: a text's first token is like no other."""
        kept = self._rows.setdefault((seen.source.name, seen.mat), [])
        n_wanted = max(1, self._n_rows // seen.source.n_mats)
        n_here = min(math.ceil(n_wanted / self._n_chunks), n_wanted - sum(map(len, kept)), len(seen.rows))
        if n_here > 0:
            middles = ((np.arange(n_here) + 0.5) * len(seen.rows) / n_here).astype(np.int64)
            kept.append(seen.rows[middles])

    def of(self, name: str, mat: int) -> NDArray[np.float32] | None:
        """Return the rows that one matrix of an input read, [n_rows, n_cols] float32; None if there are none."""
        kept = self._rows.get((name, mat))
        return np.concatenate(kept) if kept else None
