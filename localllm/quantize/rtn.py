"""Rounding to nearest: each weight by itself, under scales that ggml searches. llama.cpp's own way, byte for byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from localllm.gguf import GGMLType, TensorInfo
from localllm.quantize.imatrix import Imatrix
from localllm.quantize.method import Encoder
from localllm.quantize.workers import Workers


class Rtn:
    """Rounds to nearest; with an importance matrix, the scales are searched for the least weighted error.

    Args:
        workers: the threads to use.
        imatrix: importance of the input columns; tensors that it lacks are encoded without.
    """

    name = "rtn"
    needs_whole_matrices = False

    def __init__(self, workers: Workers, imatrix: Imatrix | None = None) -> None:
        self._workers = workers
        self._imatrix = imatrix

    def begin(self, tensor: TensorInfo, kind: GGMLType) -> Encoder:
        """Return the encoder of a tensor.

        Raises:
            RequestError: the importance matrix is of another model.
        """
        importance = self._imatrix.importance(tensor) if self._imatrix else None

        def encode_rows(rows: NDArray[np.float32], matrix: int) -> NDArray[np.uint8]:
            return self._workers.encode(kind.name, rows, None if importance is None else importance[matrix])

        return encode_rows
