"""A type for each tensor under a budget of bytes: what each type would do to each tensor, and the best choice of all.

What a type does is the squared error of the weights as ggml rounds them, each column weighted by the mean square of
its input: nearly what it adds to the squared error of the outputs, since the errors of rounding hardly go together.
What such an error costs the model differs from part to part, and is measured by the caller
(`localllm.workshop.sensitivity`): nats of divergence for a unit of error, by group of tensors. Both are taken to add
up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, GGMLType, GGUFHeader, TensorInfo
from localllm.hardware.sizes import format_bytes
from localllm.llama.encoding import decode
from localllm.quantize.categories import category, layer_of, may_be_quantized
from localllm.quantize.imatrix import Imatrix
from localllm.quantize.knapsack import Choice, choose, least_bytes
from localllm.quantize.pipeline import read_rows
from localllm.quantize.workers import Workers

KINDS = ("q2_K", "q3_K", "iq4_xs", "q4_K", "q5_K", "q6_K", "q8_0")
SMALL_BLOCK_KINDS = ("iq4_nl", "q4_1", "q5_0", "q5_1", "q8_0")
"""For tensors whose rows are no whole number of blocks of 256."""
N_DEPTHS = 3
"""Parts that the layers are cut into, from the first to the last."""
N_SAMPLED = 512
"""Rows of a tensor that errors are measured on, evenly spaced."""


@dataclass(frozen=True)
class Candidate:
    """One type that a tensor could have."""

    kind: GGMLType
    n_bytes: int
    """Padded as in the file."""
    error: float
    """Weighted squared error of the whole tensor."""


def groups_of(header: GGUFHeader) -> dict[str, str]:
    """Return, for each tensor, the group of those that are taken to be equally sensitive: what it is, and how deep."""
    n_layer = 1 + max(layer_of(tensor.name) for tensor in header.tensors)
    return {tensor.name: _group(tensor.name, n_layer) for tensor in header.tensors}


def _group(name: str, n_layer: int) -> str:
    layer, part = layer_of(name), category(name).name.lower()
    return part if layer < 0 else f"{part}.{layer * N_DEPTHS // n_layer}"


def candidates(
    header: GGUFHeader, imatrix: Imatrix, workers: Workers, on_tensor: Callable[[int, int], None] = lambda *_: None
) -> dict[str, list[Candidate]]:
    """Try the types of each tensor that may be quantized.

    Args:
        header: of the 16-bit source.
        imatrix: of its inputs; tensors that it lacks count all columns alike.
        workers: the threads to use.
        on_tensor: hears how many are done, and how many there are.

    Raises:
        ModelError: weights are not finite.
        RequestError: the importance matrix is another model's.
    """
    tensors = [tensor for tensor in header.tensors if may_be_quantized(tensor, header.architecture)]
    found = {}
    for n_done, tensor in enumerate(tensors, 1):
        found[tensor.name] = _candidates(header, tensor, imatrix.importance(tensor), workers)
        on_tensor(n_done, len(tensors))
    return found


def allocate(
    found: Mapping[str, Sequence[Candidate]], sensitivity: Callable[[str], float], budget: int
) -> dict[str, GGMLType]:
    """Choose a type for each tensor: the least predicted divergence whose bytes are at most `budget`.

    Args:
        found: as `candidates` returns it.
        sensitivity: of a tensor by name: what a unit of error costs.
        budget: in bytes, of these tensors.

    Raises:
        RequestError: even the smallest types take more.
    """
    options = [[Choice(c.n_bytes, sensitivity(name) * c.error) for c in choices] for name, choices in found.items()]
    if least_bytes(options) > budget:
        raise RequestError(
            f"The smallest types take {format_bytes(least_bytes(options))}; {format_bytes(max(budget, 0))} are left.",
            hint="Ask for a larger file, or take a smaller model.",
        )
    chosen = choose(options, budget)
    return {name: choices[index].kind for (name, choices), index in zip(found.items(), chosen, strict=True)}


def kinds_for(n_cols: int) -> list[GGMLType]:
    """Return the types that rows of so many weights can have; none where no block fits."""
    names = KINDS if n_cols % 256 == 0 else SMALL_BLOCK_KINDS
    return [GGML_TYPES_BY_NAME[name] for name in names if n_cols % GGML_TYPES_BY_NAME[name].block_size == 0]


def weighted_error(
    kind: str, rows: NDArray[np.float32], importance: NDArray[np.float32] | None, workers: Workers
) -> float:
    """Return Σ_j importance_j Σ_i (w_ij - q_ij)², where q are the rows [n_rows, n_cols] as ggml rounds them."""
    difference = rows - decode(kind, workers.encode(kind, rows, importance))
    by_column = np.einsum("ij,ij->j", difference, difference, dtype=np.float64)
    return float(by_column.sum() if importance is None else by_column @ importance.astype(np.float64))


def padded(n_bytes: int, alignment: int) -> int:
    """Return what a tensor's bytes take in a file."""
    return -(-n_bytes // alignment) * alignment


def _candidates(
    header: GGUFHeader, tensor: TensorInfo, importance: NDArray[np.float32] | None, workers: Workers
) -> list[Candidate]:
    kinds = kinds_for(tensor.shape[0])
    matrices = _sampled(header, tensor) if kinds else []
    found = [
        Candidate(
            kind,
            padded(kind.n_bytes(tensor.n_params), header.alignment),
            sum(
                scale * weighted_error(kind.name, rows, None if importance is None else importance[matrix], workers)
                for matrix, (rows, scale) in enumerate(matrices)
            ),
        )
        for kind in kinds
    ]
    half = GGML_TYPES_BY_NAME["f16"]
    return found or [Candidate(half, padded(half.n_bytes(tensor.n_params), header.alignment), 0.0)]


def _sampled(header: GGUFHeader, tensor: TensorInfo) -> list[tuple[NDArray[np.float32], float]]:
    """Return some rows of each matrix, and how many each of them stands for."""
    n_rows = tensor.shape[1]
    n_matrices = tensor.n_params // (tensor.shape[0] * n_rows)
    n_taken = max(1, min(n_rows, N_SAMPLED // n_matrices))
    places = np.linspace(0, n_rows - 1, n_taken).astype(int)
    found = []
    for matrix in range(n_matrices):
        stored = read_rows(header, tensor, matrix * n_rows, n_rows)[places]
        found.append((decode(tensor.type.name, stored), n_rows / n_taken))
    return found
