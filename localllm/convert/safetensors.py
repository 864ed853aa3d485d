"""safetensors files: a checked header, and tensors as float32, read where they lie in the file.

A file is 8 bytes of header length (little-endian), a JSON header, and the tensors' bytes, without holes. Nothing of it
is trusted: every length, offset and shape is checked against the file before a byte of a tensor is read.

Source: the format's description in https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from localllm.errors import InvalidCheckpoint

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000
"""The format's own bound."""
DOWNLOAD_AGAIN = "The file is damaged or incomplete: download the model again."

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, not read yet."""

    path: Path
    name: str
    dtype: str
    """safetensors' name, such as "BF16"."""
    shape: tuple[int, ...]
    offset: int
    """Of its first byte in the file."""

    @property
    def n_items(self) -> int:
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it can be read as weights."""
        return self.dtype in _NUMPY_TYPES

    def read(self) -> NDArray[np.float32]:
        """Return the whole tensor as float32, in its own shape.

        Raises:
            InvalidCheckpoint: its dtype is none that weights are read from.
        """
        return self._items(0, self.n_items).reshape(self.shape)

    def rows(self, n_rows: int) -> Iterator[NDArray[np.float32]]:
        """Yield the tensor as float32 in pieces of `n_rows` along its first axis.

        Raises:
            InvalidCheckpoint: its dtype is none that weights are read from.
        """
        width = prod(self.shape[1:])
        for first in range(0, self.shape[0], n_rows):
            n = min(n_rows, self.shape[0] - first)
            yield self._items(first * width, n * width).reshape(n, *self.shape[1:])

    def _items(self, first: int, n: int) -> NDArray[np.float32]:
        if not self.is_float:
            raise InvalidCheckpoint(
                f"{self.path.name}: tensor {self.name!r} is {self.dtype}; {', '.join(_NUMPY_TYPES)} can be converted",
                hint="It is quantized already, or no weight: choose the original 16-bit or 32-bit checkpoint.",
            )
        if n == 0:
            return np.empty(0, np.float32)
        kind = np.dtype(_NUMPY_TYPES[self.dtype])
        start = self.offset + first * kind.itemsize
        try:
            raw = np.memmap(self.path, np.uint8, "r", start, (n * kind.itemsize,)).view(kind)
        except (OSError, ValueError) as error:
            raise _invalid(self.path, f"it has changed, or cannot be read any more: {error}") from error
        if self.dtype == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        # What float32 cannot hold becomes infinite, which is found where weights are checked.
        with np.errstate(over="ignore"):
            return np.array(raw, np.float32)


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name, in the order of their bytes.

    Raises:
        InvalidCheckpoint: the file is truncated, or its header is not what the format allows.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
                raise _invalid(path, f"its header takes {length:,} bytes, and the file has {size:,}")
            header = _parsed(path, file.read(length))
    except OSError as error:
        raise _invalid(path, f"it cannot be read: {error.strerror}") from error
    start = LENGTH_BYTES + length
    spans = sorted(
        (_span(path, name, entry) for name, entry in header.items() if name != "__metadata__"),
        key=lambda span: span[1:],
    )
    _check_cover(path, spans, size - start)
    return {
        name: StoredTensor(path, name, header[name]["dtype"], tuple(header[name]["shape"]), start + first)
        for name, first, _ in spans
    }


def _parsed(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise _invalid(path, "its header is no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _span(path: Path, name: str, entry: object) -> tuple[str, int, int]:
    """Return a tensor's name and the range of its bytes, checked against its shape."""
    if not isinstance(entry, Mapping):
        raise _invalid(path, f"the entry of tensor {name!r} is no object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise _invalid(path, f"the entry of tensor {name!r} lacks a dtype, a shape or two offsets")
    first, end = offsets
    if dtype in _ITEM_BYTES and end - first != prod(shape) * _ITEM_BYTES[dtype]:
        raise _invalid(
            path,
            f"tensor {name!r} takes {end - first:,} bytes where {dtype} of shape {list(shape)} "
            f"takes {prod(shape) * _ITEM_BYTES[dtype]:,}",
        )
    return name, first, end


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(path: Path, spans: list[tuple[str, int, int]], n_bytes: int) -> None:
    """Check that the tensors' bytes follow each other without overlap or hole and end with the file."""
    position = 0
    for name, first, end in spans:
        if first != position or end < first:
            problem = "overlaps the one before it" if first < position else "has a hole before it"
            raise _invalid(path, f"tensor {name!r}, bytes {first:,} to {end:,}, {problem}")
        position = end
    if position != n_bytes:
        raise _invalid(path, f"its tensors take {position:,} bytes, and {n_bytes:,} follow the header")


def _invalid(path: Path, problem: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(f"{path.name}: {problem}", hint=DOWNLOAD_AGAIN)
