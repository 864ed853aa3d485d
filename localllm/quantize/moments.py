"""Where the second moments of a tensor's inputs come from, and the factors made of them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from localllm.gguf import TensorInfo
from localllm.quantize.gptq import Conditioning, Factor, SecondMoments, factorize

N_KEPT = 3
"""Factors that are kept: in the order of a file, k and v, which share one, are apart by two others."""
N_TOKENS_A_COLUMN = 1.0
"""A starved expert leans on this many tokens of its layer's mean for each column that it has."""


class MomentSource(Protocol):
    """The second moments of a model's inputs, such as a folder that a calibration wrote."""

    def covers(self, weight: str) -> bool:
        """Whether there are moments of what this tensor reads."""

    def input_of(self, weight: str) -> str:
        """Return a name of what the tensor reads; tensors that read the same have the same."""

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        """Return the moments of one matrix; None where no token reached it, as with an expert.

        Raises:
            RequestError: they are damaged, or there are none.
        """


@dataclass(frozen=True)
class Gradients:
    """What the model's predictions say of the errors of one weight: the factors of their Fisher information."""

    inputs: SecondMoments
    """[n_cols, n_cols]: of what it reads, each token weighted by what its errors cost."""
    outputs: tuple[SecondMoments, ...]
    """Of the gradients of what it makes, for all its rows, [n_rows, n_rows], or for blocks of them, in order."""

    @property
    def n_rows(self) -> int:
        return sum(block.n_cols for block in self.outputs)


class GradientSource(Protocol):
    """The gradients of a model's weights."""

    def covers(self, weight: str) -> bool:
        """Whether there are gradients of a weight."""

    def gradients(self, weight: str) -> Gradients:
        """Return those of one weight.

        Raises:
            RequestError: they are damaged, or there are none.
        """


class Factors:
    """Factors by tensor; those that tensors share are made once.

    Args:
        source: of the moments.
        conditioning: how far to trust them.
    """

    def __init__(self, source: MomentSource, conditioning: Conditioning | None = None) -> None:
        self._source = source
        self._conditioning = conditioning or Conditioning()
        self._kept: OrderedDict[tuple[str, int], Factor] = OrderedDict()

    def covers(self, tensor: TensorInfo) -> bool:
        """Whether there are moments of what the tensor reads."""
        return self._source.covers(tensor.name)

    def of(self, tensor: TensorInfo, matrix: int) -> Factor:
        """Return the factor of one of a tensor's matrices.

        Raises:
            RequestError: the moments are damaged, or another model's.
        """
        key = self._source.input_of(tensor.name), matrix
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            while len(self._kept) >= N_KEPT:
                self._kept.popitem(last=False)
            self._kept[key] = factorize(self._moments(tensor, matrix), self._conditioning)
        return self._kept[key]

    def _moments(self, tensor: TensorInfo, matrix: int) -> SecondMoments:
        """Moments of an expert that saw few tokens lean on those of all experts together."""
        own = self._source.second_moments(tensor.name, matrix)
        n_matrices = tensor.n_params // (tensor.shape[0] * tensor.shape[1])
        n_enough = N_TOKENS_A_COLUMN * tensor.shape[0]
        if own is not None and (n_matrices == 1 or own.n_tokens >= n_enough):
            return own
        together = self._of_all(tensor, n_matrices)
        return together if own is None else own.leaning_on(together, n_enough - own.n_tokens)

    def _of_all(self, tensor: TensorInfo, n_matrices: int) -> SecondMoments:
        found = (self._source.second_moments(tensor.name, matrix) for matrix in range(n_matrices))
        known = [moments for moments in found if moments is not None]
        if not known:
            return SecondMoments(np.zeros((tensor.shape[0],) * 2, dtype=np.float32), 1)
        total = known[0].total.astype(np.float32)
        for moments in known[1:]:
            total += moments.total
        return SecondMoments(total, sum(moments.n_tokens for moments in known))
