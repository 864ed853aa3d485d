"""Rows of weights to ggml's blocks and back, by ggml's own encoders.

The encoders search each block's scales so that the squared error, weighted by column, is least. They know nothing of
other blocks: feeding one block's error into the next is the caller's business (`localllm.quantize`).

Both directions release Python's interpreter lock, so threads that each take some rows run side by side.

Source: `ggml_quantize_chunk` in ggml.c, `ggml_get_type_traits` in ggml.h, at the pinned version.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelError, RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, GGMLType
from localllm.llama.devices import ggml_library

ENCODABLE = (
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
    "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs",
)  # fmt: skip
"""Types that `encode` makes, by ggml's names. Of the others, some need importance, some are for activations."""

_ENCODABLE = {name.lower(): GGML_TYPES_BY_NAME[name] for name in ENCODABLE}
_DAMAGED = "The source file is damaged, or not a model's weights. Download or convert it again."


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits`, as ggml.h declares it at the pinned version."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


def encodable_type(name: str) -> GGMLType:
    """Return the type of this name, in upper or lower case, that `encode` can make.

    Raises:
        RequestError: there is none.
    """
    try:
        return _ENCODABLE[name.lower()]
    except KeyError:
        choices = ", ".join(kind.upper() for kind in ENCODABLE)
        raise RequestError(f"{name!r} is no type that tensors can be made of.", hint=f"One of {choices}.") from None


def row_bytes(kind: str, n_cols: int) -> int:
    """Return the bytes that a row of `n_cols` weights takes as type `kind`.

    Raises:
        ValueError: no such type, or the row is not a whole number of its blocks.
    """
    entry = _type(kind)
    if n_cols <= 0 or n_cols % entry.block_size:
        raise ValueError(f"{entry.name} takes rows of a multiple of {entry.block_size} weights, not {n_cols}")
    return entry.n_bytes(n_cols)


def encode(kind: str, rows: NDArray[np.float32], importance: NDArray[np.float32] | None = None) -> NDArray[np.uint8]:
    """Encode rows of weights with ggml's own encoder.

    Args:
        kind: one of `ENCODABLE`; case does not matter.
        rows: [n_rows, n_cols] float32, finite; n_cols is a multiple of the type's block size.
        importance: [n_cols] float32, finite, not negative: the weight of each column's squared error, such as the mean
            squared activation of that input. None: ggml's own weights, from the values alone.

    Returns:
        [n_rows, row_bytes(kind, n_cols)] uint8.

    Raises:
        RequestError: the type cannot be made.
        ValueError: an array has another shape than the type or the other one demands.
        ModelError: the rows are not finite, or too large for the type's 16-bit scales.
    """
    entry = encodable_type(kind)
    rows = _matrix(rows, np.float32, "rows")
    n_rows, n_cols = rows.shape
    coded = np.empty((n_rows, row_bytes(entry.name, n_cols)), dtype=np.uint8)
    if not n_rows:
        return coded
    if not _all_finite(rows):
        raise ModelError("Weights are NaN or infinite.", hint=_DAMAGED)
    weights = None if importance is None else _importance(importance, n_cols)
    _ggml().ggml_quantize_chunk(
        entry.id,
        rows.ctypes.data,
        coded.ctypes.data,
        0,
        n_rows,
        n_cols,
        None if weights is None else weights.ctypes.data,
    )
    if not is_finite(entry.name, coded):
        largest = float(np.abs(rows).max())
        raise ModelError(
            f"Weights as large as {largest:.3g} do not fit {entry.name}.", hint="Choose BF16 or F32 there."
        )
    return coded


def decode(kind: str, coded: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Decode rows of any type that ggml can turn into floats.

    Args:
        kind: ggml's name of the type; case does not matter.
        coded: [n_rows, row_bytes] uint8.

    Returns:
        [n_rows, n_cols] float32.

    Raises:
        ValueError: no such type, the type holds no weights, or the rows are not a whole number of its blocks.
    """
    entry = _type(kind)
    coded = _matrix(coded, np.uint8, "coded")
    n_rows, n_bytes = coded.shape
    if n_bytes % entry.block_bytes:
        raise ValueError(f"{entry.name} takes rows of a multiple of {entry.block_bytes} bytes, not {n_bytes}")
    if entry.name == "f32":
        return coded.view(np.float32).copy()
    rows = np.empty((n_rows, n_bytes // entry.block_bytes * entry.block_size), dtype=np.float32)
    if rows.size:
        _to_float(entry)(coded.ctypes.data, rows.ctypes.data, rows.size)
    return rows


def is_finite(kind: str, coded: NDArray[np.uint8]) -> bool:
    """Tell whether no value or scale in blocks of this type is NaN or infinite; ggml says on stderr which is."""
    coded = np.ascontiguousarray(coded)
    return bool(_ggml().ggml_validate_row_data(_type(kind).id, coded.ctypes.data, coded.nbytes))


def _type(kind: str) -> GGMLType:
    entry = _types_by_name().get(kind.lower())
    if entry is None:
        raise ValueError(f"{kind!r} is no ggml type")
    return entry


@functools.cache
def _types_by_name() -> dict[str, GGMLType]:
    return {name.lower(): entry for name, entry in GGML_TYPES_BY_NAME.items()}


def _matrix(values: NDArray[Any], dtype: type[Any], what: str) -> NDArray[Any]:
    if values.ndim != 2 or values.dtype != dtype:
        raise ValueError(f"{what} must be a matrix of {np.dtype(dtype)}, not {values.shape} {values.dtype}")
    return np.ascontiguousarray(values)


def _importance(values: NDArray[np.float32], n_cols: int) -> NDArray[np.float32]:
    """A type that has no weighted search reads no importance; the checks are the same for all."""
    if values.shape != (n_cols,):
        raise ValueError(f"importance must have shape ({n_cols},), not {values.shape}")
    weights = np.ascontiguousarray(values, dtype=np.float32)
    if not _all_finite(weights) or weights.min() < 0:
        raise ValueError("importance must be finite and not negative")
    return weights


def _all_finite(values: NDArray[np.float32]) -> bool:
    """Without a temporary array: NaN goes through min and max."""
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


@functools.cache
def _to_float(entry: GGMLType) -> Any:
    to_float = _ggml().ggml_get_type_traits(entry.id).contents.to_float
    if not to_float:
        raise ValueError(f"{entry.name} cannot be decoded")
    return to_float


@functools.cache
def _ggml() -> Any:
    lib = ggml_library("ggml-base")
    pointer, int64 = ctypes.c_void_p, ctypes.c_int64
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, int64, int64, int64, pointer]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, ctypes.c_size_t]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    lib.ggml_get_type_traits.argtypes = [ctypes.c_int]
    lib.ggml_get_type_traits.restype = ctypes.POINTER(_TypeTraits)
    return lib
