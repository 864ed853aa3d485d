"""GPTQ as a method: each tensor with the second moments of its inputs, rows in parts on all threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from localllm.gguf import GGMLType, TensorInfo
from localllm.quantize.gptq import DEFAULT_EFFORT, Effort, encode_with_feedback
from localllm.quantize.method import Encoder
from localllm.quantize.moments import Factors
from localllm.quantize.rtn import Rtn
from localllm.quantize.workers import Workers

N_ROWS = 512
"""Rows of one part: a number that does not depend on threads, so the bytes do not either."""


class Gptq:
    """Rounds with error feedback; tensors of whose inputs nothing is known are rounded to nearest.

    Args:
        workers: the threads to use.
        factors: of the inputs.
        otherwise: for tensors without moments.
        effort: how often codes and scales are gone over again.
    """

    name = "gptq"
    needs_whole_matrices = False

    def __init__(self, workers: Workers, factors: Factors, otherwise: Rtn, effort: Effort = DEFAULT_EFFORT) -> None:
        self._workers = workers
        self._factors = factors
        self._otherwise = otherwise
        self._effort = effort

    def begin(self, tensor: TensorInfo, kind: GGMLType) -> Encoder:
        """Return the encoder of a tensor.

        Raises:
            RequestError: the moments are another model's, or damaged.
        """
        if not self._factors.covers(tensor):
            return self._otherwise.begin(tensor, kind)

        def encode_rows(rows: NDArray[np.float32], matrix: int) -> NDArray[np.uint8]:
            factor = self._factors.of(tensor, matrix)
            return self._workers.map_rows(
                lambda part: encode_with_feedback(kind.name, part, factor, self._effort), rows, N_ROWS
            )

        return encode_rows
