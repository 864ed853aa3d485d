"""Tensors on their way: what one is called in the GGUF file, its shape there, and its weights, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from localllm.convert.safetensors import StoredTensor

Array = NDArray[np.float32]
PIECE_ITEMS = 1 << 24
"""Weights that are held at once of a tensor that is copied as it is: 64 MiB of float32."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF file."""

    name: str
    shape: tuple[int, ...]
    """As NumPy has it: (rows, columns) for a matrix, where columns are the inputs."""
    pieces: Callable[[], Iterator[Array]]
    """Its weights, float32, in pieces along the first axis; a piece of a stack may lack that axis."""

    @property
    def n_items(self) -> int:
        return prod(self.shape)


def copied(name: str, tensor: StoredTensor) -> OutputTensor:
    """Return the tensor as it is; it is never in memory as a whole."""
    n_rows = max(1, PIECE_ITEMS // max(1, prod(tensor.shape[1:])))
    return OutputTensor(name, tensor.shape, lambda: tensor.rows(n_rows))


def changed(name: str, tensor: StoredTensor, change: Callable[[Array], Array], shape: Sequence[int]) -> OutputTensor:
    """Return what `change` makes of the whole tensor, of shape `shape`."""

    def pieces() -> Iterator[Array]:
        yield change(tensor.read())

    return OutputTensor(name, tuple(shape), pieces)


def transposed(name: str, tensor: StoredTensor) -> OutputTensor:
    """Return the tensor with its axes reversed."""
    return changed(name, tensor, np.transpose, tensor.shape[::-1])


def stacked(name: str, tensors: Sequence[StoredTensor]) -> OutputTensor:
    """Return tensors of one shape as one, along a new first axis; one of them is in memory at once."""
    return OutputTensor(name, (len(tensors), *tensors[0].shape), lambda: (tensor.read() for tensor in tensors))


def constant(name: str, values: Array) -> OutputTensor:
    """Return a tensor that is computed, not read."""
    return OutputTensor(name, values.shape, lambda: iter([values]))
