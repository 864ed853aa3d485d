"""What a method of quantizing is: how the rows of one tensor become blocks of a type."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from localllm.gguf import GGMLType, TensorInfo


class Encoder(Protocol):
    """Encodes the rows of one tensor."""

    def __call__(self, rows: NDArray[np.float32], matrix: int, /) -> NDArray[np.uint8]:
        """Encode some rows of one of the tensor's matrices.

        Args:
            rows: [n_rows, n_cols] float32; all of the matrix, or, where that would take too much memory, a part.
            matrix: which matrix, from 0; more than one where the tensor holds experts.

        Returns:
            [n_rows, row_bytes] uint8, the same whatever the parts.

        Raises:
            ModelError: the rows cannot be encoded.
        """


class Method(Protocol):
    """A way of quantizing. It may use as many threads as it was given; it is called from one."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""

    @property
    def needs_whole_matrices(self) -> bool:
        """Whether an encoder must be given all rows of a matrix at once, however much memory they take."""

    def begin(self, tensor: TensorInfo, kind: GGMLType) -> Encoder:
        """Return the encoder of one tensor, which is dropped when its rows are done.

        Args:
            tensor: the tensor of the source.
            kind: the quantized type that it will have.

        Raises:
            LocalLLMError: what is known about the tensor's inputs does not fit it.
        """
