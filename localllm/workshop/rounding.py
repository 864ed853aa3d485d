"""What 8 bits lose in a product of activations and weights, measured on those of a model.

llama.cpp computes a product with Q8_0 weights in integers: weights and activations each are rounded to blocks of 32
with a 16-bit scale. So does this, by ggml's own encoder: the error of Q8(X) Q8(W)ᵀ against X Wᵀ. Beside it stands what
activations lose with one scale for a whole token, where outliers hurt (Dettmers et al. 2022, "LLM.int8()", section 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.channels import kind_of
from localllm.calibrate.inputs import MatrixInput
from localllm.calibrate.samples import RowSamples
from localllm.gguf import GGUFHeader, TensorInfo
from localllm.llama.encoding import decode, encode
from localllm.quantize.pipeline import read_rows

Rows = NDArray[np.float32]
Squares = NDArray[np.float64]
Q8 = "q8_0"
N_LEVELS = 127
"""On each side of zero."""
SLAB_BYTES = 64 << 20
"""Of a weight's rows that are in memory at once, as float32."""


@dataclass(frozen=True)
class RoundingError:
    """Relative errors of one kind of weight's products: ‖error‖ / ‖exact‖ of a token, the root of its mean square."""

    kind: str
    n_layers: int
    weights: float
    """The weights rounded to Q8_0."""
    inputs: float
    """The activations."""
    both: float
    token_scale: float
    """The activations to 8 bits with one scale for each token, the weights exact."""


def rounding_errors(
    header: GGUFHeader,
    inputs: Sequence[MatrixInput],
    samples: RowSamples,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[RoundingError, ...]:
    """Return what 8 bits lose, for each kind of weight whose rows are whole blocks of 32.

    Args:
        header: of the model; weights of any type are decoded.
        inputs: of its weights.
        samples: rows of them.
        on_progress: hears how many inputs are done, and how many there are.

    Raises:
        ModelError: weights are not finite.
    """
    errors: dict[str, list[Squares]] = defaultdict(list)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    for n_done, source in enumerate(inputs, 1):
        for weight in source.weights:
            if source.n_cols % 32 == 0 and weight in tensors:
                errors[kind_of(weight)].append(
                    np.concatenate(list(_of_weight(header, tensors[weight], source, samples)))
                )
        on_progress(n_done, len(inputs))
    return tuple(
        RoundingError(kind, len(layers), *np.sqrt(np.concatenate(layers).mean(axis=0)).tolist())
        for kind, layers in errors.items()
    )


def _of_weight(header: GGUFHeader, tensor: TensorInfo, source: MatrixInput, samples: RowSamples) -> Iterator[Squares]:
    """Yield the squared relative errors of each token, [n_rows, 4] float64, matrix by matrix."""
    for mat in range(source.n_mats):
        x = samples.of(source.name, mat)
        if x is not None:
            yield _of_matrix(header, tensor, mat, x)
    yield np.empty((0, 4))


def _of_matrix(header: GGUFHeader, tensor: TensorInfo, mat: int, x: Rows) -> Squares:
    n_cols, n_rows = tensor.shape[:2]
    n_slab = max(1, SLAB_BYTES // (4 * n_cols))
    ways = np.concatenate([x, _q8(x), _scaled_by_token(x)])
    exact, errors = np.zeros(len(x)), np.zeros((len(x), 4))
    for first in range(0, n_rows, n_slab):
        stored = read_rows(header, tensor, mat * n_rows + first, min(n_slab, n_rows - first))
        weights = decode(tensor.type.name, stored)
        y, y_inputs, y_scaled = np.split(ways @ weights.T, 3)
        y_weights, y_both = np.split(ways[: 2 * len(x)] @ _q8(weights).T, 2)
        exact += _row_squares(y)
        errors += np.stack([_row_squares(other - y) for other in (y_weights, y_inputs, y_both, y_scaled)], axis=1)
    return errors[exact > 0] / exact[exact > 0, None]


def _q8(rows: Rows) -> Rows:
    return decode(Q8, encode(Q8, rows))


def _scaled_by_token(x: Rows) -> Rows:
    """Round each row to 8 bits with one scale."""
    scale = np.abs(x).max(axis=1, keepdims=True) / N_LEVELS
    scale[scale == 0] = 1
    rounded: Rows = np.rint(x / scale) * scale
    return rounded


def _row_squares(rows: Rows) -> Squares:
    squares: Squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return squares
