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
    outputs: Array
    """[n_out, n_out], symmetric; of more than `WHOLE_OUTPUTS`, its diagonal blocks [n_blocks, BLOCK, BLOCK], the last
    of which ends in zeros where n_out is no multiple."""
    n_tokens: int


class FisherSum:
    """The factors of one weight, while its tokens come.

    Args:
        n_out, n_in: of the weight.
        dtype: float32, or float64 to check derivatives.
    """

    def __init__(self, n_out: int, n_in: int, dtype: DTypeLike = np.float32) -> None:
        self._inputs: Array = np.zeros((n_in, n_in), dtype)
        self._outputs: Array = np.zeros(outputs_shape(n_out), dtype)
        self._n_tokens = 0

    def add(self, x: Array, g: Array) -> None:
        """Add tokens.

        Args:
            x: [n_tokens, n_in], what the weight read.
            g: [n_tokens, n_out], the gradient by what it made.
        """
        add_gram(self._inputs, x * _lengths(g))
        weighted = g * _lengths(x)
        for start, block in self._blocks():
            part = np.ascontiguousarray(weighted[:, start : start + len(block)])
            add_gram(block[: part.shape[1], : part.shape[1]], part)
        self._n_tokens += len(x)

    def finish(self) -> FisherFactors:
        """Return the factors; the sum is over after that."""
        mirror_upper(self._inputs)
        for _, block in self._blocks():
            mirror_upper(block)
        return FisherFactors(self._inputs, self._outputs, self._n_tokens)

    def _blocks(self) -> list[tuple[int, Array]]:
        """Return each diagonal block, and the output that it begins with."""
        if self._outputs.ndim == 2:
            return [(0, self._outputs)]
        return [(index * BLOCK, block) for index, block in enumerate(self._outputs)]


def outputs_shape(n_out: int) -> tuple[int, ...]:
    """Return the shape of the outputs' factor."""
    return (n_out, n_out) if n_out <= WHOLE_OUTPUTS else (-(-n_out // BLOCK), BLOCK, BLOCK)


def _lengths(rows: Array) -> Array:
    """Return the Euclidean length of each row: [n_rows, 1]."""
    lengths: Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return lengths[:, None]
