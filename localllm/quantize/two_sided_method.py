"""GPTQ with feedback between rows too, where the gradients of the model's predictions are known (YAQA)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.gguf import GGMLType, TensorInfo, printable
from localllm.quantize.gptq import DEFAULT_EFFORT, Conditioning, Effort, factorize
from localllm.quantize.gptq.order import row_order
from localllm.quantize.gptq.two_sided import encode_with_both_feedbacks
from localllm.quantize.method import Encoder, Method
from localllm.quantize.moments import Gradients, GradientSource, MomentSource
from localllm.quantize.workers import Workers


@dataclass(frozen=True)
class TwoSidedConditioning:
    """How far to trust what some ten thousand tokens say: of those, a few cost most, so it is less than it seems.

    On Qwen2.5-Coder-1.5B, on text that no gradient was taken of, the errors of gate and up cost a quarter more than
    those of rounding to nearest with 0.1 and 0.2 here, and a tenth less with these; SmolLM2, with fewer columns,
    hardly minds.
    """

    inputs: Conditioning = field(default_factory=lambda: Conditioning(shrinkage=0.5))
    """Of the mixed second moments."""
    outputs: Conditioning = field(default_factory=lambda: Conditioning(shrinkage=0.7))
    """Of the gradients'."""


class TwoSidedGptq:
    """Rounds so that the model's predictions change least; tensors without gradients are the other method's.

    The moments of the inputs are half the plain ones, which many tokens were read for, and half the weighted ones.

    Args:
        workers: the threads to use.
        moments: of the inputs.
        gradients: of the weights.
        otherwise: for tensors without gradients, and those of experts.
        effort: how often codes and scales are gone over again.
        conditioning: how far to trust what is known.
    """

    name = "gptq"
    needs_whole_matrices = True

    def __init__(
        self,
        workers: Workers,
        moments: MomentSource,
        gradients: GradientSource,
        otherwise: Method,
        effort: Effort = DEFAULT_EFFORT,
        conditioning: TwoSidedConditioning | None = None,
    ) -> None:
        self._workers = workers
        self._moments = moments
        self._gradients = gradients
        self._otherwise = otherwise
        self._effort = effort
        self._conditioning = conditioning or TwoSidedConditioning()

    def begin(self, tensor: TensorInfo, kind: GGMLType) -> Encoder:
        """Return the encoder of a tensor.

        Raises:
            RequestError: the moments or gradients are another model's, or damaged.
        """
        plain = self._moments.second_moments(tensor.name, 0) if self._covers(tensor) else None
        if plain is None:
            return self._otherwise.begin(tensor, kind)
        found = self._gradients.gradients(tensor.name)
        _check(tensor, found)
        inputs = factorize(plain.mixed_with(found.inputs), self._conditioning.inputs)
        outputs = [factorize(block, self._conditioning.outputs, arrange=row_order) for block in found.outputs]

        def encode_rows(rows: NDArray[np.float32], _: int) -> NDArray[np.uint8]:
            run = self._workers.map
            return encode_with_both_feedbacks(kind.name, rows, inputs, outputs, self._effort, run=run)

        return encode_rows

    def _covers(self, tensor: TensorInfo) -> bool:
        is_one_matrix = tensor.n_params == tensor.shape[0] * tensor.shape[1]
        return is_one_matrix and self._moments.covers(tensor.name) and self._gradients.covers(tensor.name)


def _check(tensor: TensorInfo, found: Gradients) -> None:
    n_cols, n_rows = tensor.shape[:2]
    if (found.inputs.n_cols, found.n_rows) != (n_cols, n_rows):
        raise RequestError(
            f"The gradients of {printable(tensor.name)} are of {found.inputs.n_cols} columns and "
            f"{found.n_rows} rows; it has {n_cols} and {n_rows}.",
            hint="They are another model's. Collect them with this one.",
        )
