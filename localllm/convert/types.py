"""How weights are stored: which type each tensor gets, and its encoding."""

from __future__ import annotations

from typing import Literal, get_args

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, GGMLType

OutputType = Literal["bf16", "f16", "f32", "q8_0"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
"""`general.file_type` of a file whose matrices have the type."""

_F32, _F16 = GGML_TYPES_BY_NAME["f32"], GGML_TYPES_BY_NAME["f16"]
_ALWAYS_F32 = ("_norm.weight", "ffn_gate_inp.weight", "position_embd.weight", "token_types.weight")
"""Small, and read by kernels that take nothing else, or where a rounding would change much (routers)."""
_LARGEST = {"f16": 65504.0, "q8_0": 127 * 65504.0}
"""A block of q8_0 has its largest weight over 127 as its scale, in f16."""


def tensor_type(name: str, shape: tuple[int, ...], wanted: OutputType) -> GGMLType:
    """Return the type that a tensor is stored in: vectors, norms, routers and positions as f32, the others as wanted.

    A matrix whose rows are no whole blocks of the wanted type becomes f16, as with llama.cpp's own converter.
    """
    if len(shape) < 2 or name.endswith(_ALWAYS_F32):
        return _F32
    kind = GGML_TYPES_BY_NAME[wanted]
    return kind if shape[-1] % kind.block_size == 0 else _F16


def encode(name: str, weights: NDArray[np.float32], kind: GGMLType) -> NDArray[np.uint8]:
    """Return the bytes of weights in a type; bf16, f16 and q8_0 round to nearest.

    Args:
        name: the tensor's, for errors.
        weights: any shape whose rows are whole blocks, float32, finite.
        kind: f32, f16, bf16 or q8_0.

    Raises:
        RequestError: a weight is beyond what the type can hold.
    """
    limit = _LARGEST.get(kind.name)
    if limit is not None and (largest := float(np.abs(weights).max(initial=0))) > limit:
        raise RequestError(
            f"Tensor {name} has a weight of {largest:g}; {kind.name} ends at {limit:g}.", hint="Use --type bf16."
        )
    weights = np.ascontiguousarray(weights, np.float32)
    if kind is not _F32:
        weights = np.ascontiguousarray(quantize(weights, gguf.GGMLQuantizationType(kind.id)))
    return weights.reshape(-1).view(np.uint8)
