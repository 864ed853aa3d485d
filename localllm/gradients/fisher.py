"""Kronecker factors of one weight's Fisher information: what errors in it cost the model's predictions.

With x a token's input and g the gradient at the weight's output, over all tokens:

    inputs  = Σ |g|² x xᵀ           outputs = Σ |x|² g gᵀ

Source: Tseng, Sun, De Sa 2025 (YAQA), section 3, sketch A without its power iteration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from localllm.gradients.gram import add_gram, mirror_upper
from localllm.gradients.tensors import Array

WHOLE_OUTPUTS = 2048
"""Outputs of which all pairs are kept; of more, those within blocks."""
BLOCK = 1024


@dataclass(frozen=True)
class FisherFactors:
    """The factors of one weight [n_out, n_in], summed over `n_tokens`."""

    inputs: Array
    """[n_in, n_in], symmetric."""
    outputs: tuple[Array, ...]
    """Its diagonal blocks in order, symmetric: [n_out, n_out], or [BLOCK, BLOCK] of each `BLOCK` outputs and less of
    the last ones; see `block_sizes`."""
    n_tokens: int


class FisherSum:
    """The factors of one weight, while its tokens come.

    Args:
        n_out, n_in: of the weight.
        dtype: float32, or float64 to check derivatives.
    """

    def __init__(self, n_out: int, n_in: int, dtype: DTypeLike = np.float32) -> None:
        self._inputs: Array = np.zeros((n_in, n_in), dtype)
        self._outputs = tuple(np.zeros((size, size), dtype) for size in block_sizes(n_out))
        self._n_tokens = 0

    def add(self, x: Array, g: Array) -> None:
        """Add tokens.

        Args:
            x: [n_tokens, n_in], what the weight read.
            g: [n_tokens, n_out], the gradient by what it made.
        """
        add_gram(self._inputs, x * _lengths(g))
        weighted, start = g * _lengths(x), 0
        for block in self._outputs:
            add_gram(block, weighted[:, start : start + len(block)])
            start += len(block)
        self._n_tokens += len(x)

    def finish(self) -> FisherFactors:
        """Return the factors; the sum is over after that."""
        mirror_upper(self._inputs)
        for block in self._outputs:
            mirror_upper(block)
        return FisherFactors(self._inputs, self._outputs, self._n_tokens)


def block_sizes(n_out: int) -> tuple[int, ...]:
    """Return the sizes of the diagonal blocks that are kept of the outputs' factor."""
    if n_out <= WHOLE_OUTPUTS:
        return (n_out,)
    return tuple(min(BLOCK, n_out - start) for start in range(0, n_out, BLOCK))


def _lengths(rows: Array) -> Array:
    """Return the Euclidean length of each row: [n_rows, 1]."""
    lengths: Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths[:, None]
