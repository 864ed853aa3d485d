"""The table of tensors, checked as llama.cpp checks it: known types, whole blocks, no gaps, no overlaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from localllm.gguf.cursor import Cursor
from localllm.gguf.problems import DAMAGED, TRUNCATED, invalid, quoted
from localllm.gguf.types import GGML_TYPES, GGMLType

MAX_NAME_BYTES = 63
"""ggml's GGML_MAX_NAME, less its closing zero."""
MAX_DIMS = 4
_NEWER = "It may be made for a newer llama.cpp: update localllm. Otherwise it is damaged: download it again."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: what it is and where its data lies."""

    name: str
    shape: tuple[int, ...]
    """In ggml's order, rows first: (inputs, outputs) of a matrix. NumPy's shape is the reverse."""
    type: GGMLType
    offset: int
    """Where the data starts in its file, in bytes."""
    n_bytes: int
    part: int = 0
    """Which file of a split model holds it, from 0."""

    @property
    def n_params(self) -> int:
        """Weights in the tensor."""
        return math.prod(self.shape)


def read_tensor_table(cursor: Cursor, n_tensors: int, alignment: int) -> tuple[tuple[TensorInfo, ...], int]:
    """Read the tensor table and check that the data it describes is in the file.

    Args:
        cursor: at the first tensor's name.
        n_tensors: how many there are.
        alignment: of each tensor's data, in bytes.

    Returns:
        The tensors, in the file's order, and where the data section starts in bytes.

    Raises:
        InvalidModelFile: an entry is impossible, or its data is not where llama.cpp demands it.
    """
    path = cursor.path
    seen: set[str] = set()
    entries: list[tuple[str, tuple[int, ...], GGMLType, int]] = []
    for index in range(n_tensors):
        name = cursor.name(f"the name of tensor {index}", MAX_NAME_BYTES)
        if name in seen:
            raise invalid(path, f"tensor {quoted(name)} appears twice")
        seen.add(name)
        entries.append((name, *_read_entry(cursor, quoted(name))))
    if not entries:
        return (), cursor.pos
    data_offset = padded(cursor.pos, alignment)
    n_left = cursor.n_left_bytes + cursor.pos
    tensors = []
    expected = 0
    for name, shape, ggml_type, offset in entries:
        if offset != expected:
            problem = f"the data of tensor {quoted(name)} starts at {offset:,}, where {expected:,} is due"
            raise invalid(path, problem)
        n_bytes = ggml_type.n_bytes(math.prod(shape))
        end = data_offset + offset + n_bytes
        if end > n_left:
            problem = f"is truncated: tensor {quoted(name)} ends at byte {end:,}, the file at {n_left:,}"
            raise invalid(path, problem, TRUNCATED)
        tensors.append(TensorInfo(name, shape, ggml_type, data_offset + offset, n_bytes))
        expected = padded(offset + n_bytes, alignment)
    return tuple(tensors), data_offset


def padded(offset: int, alignment: int) -> int:
    """Return the first multiple of `alignment`, a power of two, from `offset` on."""
    return (offset + alignment - 1) & -alignment


def _read_entry(cursor: Cursor, name: str) -> tuple[tuple[int, ...], GGMLType, int]:
    shape = _read_shape(cursor, name)
    type_id = cursor.u32(f"the type of tensor {name}")
    ggml_type = GGML_TYPES.get(type_id)
    if ggml_type is None:
        raise invalid(cursor.path, f"tensor {name} has the unknown type {type_id}", _NEWER)
    if shape[0] % ggml_type.block_size:
        problem = (
            f"tensor {name} has rows of {shape[0]:,} weights; "
            f"{ggml_type.name} demands a multiple of {ggml_type.block_size}"
        )
        raise invalid(cursor.path, problem)
    return shape, ggml_type, cursor.u64(f"the offset of tensor {name}")


def _read_shape(cursor: Cursor, name: str) -> tuple[int, ...]:
    n_dims = cursor.u32(f"the number of dimensions of tensor {name}")
    if not 1 <= n_dims <= MAX_DIMS:
        raise invalid(cursor.path, f"tensor {name} has {n_dims:,} dimensions; 1 to {MAX_DIMS} are allowed")
    shape = tuple(cursor.u64(f"the shape of tensor {name}") for _ in range(n_dims))
    if 0 in shape:
        raise invalid(cursor.path, f"tensor {name} has a dimension of 0")
    if math.prod(shape) >= 1 << 63:
        problem = f"tensor {name} has {' × '.join(map(str, shape))} weights, more than 64 bits can count"
        raise invalid(cursor.path, problem, DAMAGED)
    return shape
