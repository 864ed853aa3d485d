"""The start of a GGUF file as bytes: metadata pairs and the table of tensors, version 3, little-endian.

The tensors' data follows, each padded to the alignment; who writes it knows where it comes from.

Source: `gguf_write_out` in gguf.cpp of the pinned llama.cpp; the same pairs and tensors give the same bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from localllm.gguf.source import MAGIC
from localllm.gguf.tensors import MAX_DIMS, MAX_NAME_BYTES, padded
from localllm.gguf.types import GGMLType
from localllm.gguf.values import ARRAY, NUMBERS, TEXT

VERSION = 3
DEFAULT_ALIGNMENT = 32
_IDS = {name: (type_id, layout) for type_id, (name, layout) in NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file that is written."""

    name: str
    shape: tuple[int, ...]
    """In ggml's order, rows first: (inputs, outputs) of a matrix."""
    type: GGMLType

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= MAX_NAME_BYTES:
            raise ValueError(f"a tensor's name takes 1 to {MAX_NAME_BYTES} bytes, unlike {self.name!r}")
        if not 1 <= len(self.shape) <= MAX_DIMS or min(self.shape) < 1 or self.shape[0] % self.type.block_size:
            raise ValueError(f"{self.name}: {self.type.name} has no shape {self.shape}")

    @property
    def n_bytes(self) -> int:
        """Bytes of its data, without padding."""
        return self.type.n_bytes(math.prod(self.shape))


def text_pair(key: str, value: str) -> bytes:
    """Return a pair with a string."""
    return _text(key) + struct.pack("<I", TEXT) + _text(value)


def number_pair(key: str, type_name: str, value: bool | int | float) -> bytes:
    """Return a pair with one number, of a type named as in `GGUFHeader.metadata_types`: "u32", "f32", "bool", …"""
    type_id, layout = _IDS[type_name]
    return _text(key) + struct.pack("<I", type_id) + layout.pack(value)


def texts_pair(key: str, values: Sequence[str]) -> bytes:
    """Return a pair with an array of strings."""
    return _text(key) + struct.pack("<IIQ", ARRAY, TEXT, len(values)) + b"".join(map(_text, values))


def head_bytes(pairs: Sequence[bytes], tensors: Sequence[TensorSpec], alignment: int = DEFAULT_ALIGNMENT) -> bytes:
    """Return everything before the tensors' data, padded to the alignment.

    Args:
        pairs: the metadata, from `text_pair` and the others, or copied from a file.
        tensors: in the order of their data.
        alignment: of each tensor's data in bytes, as `general.alignment` among the pairs says; 32 without it.
    """
    table = bytearray()
    offset = 0
    for tensor in tensors:
        n_dims = len(tensor.shape)
        table += _text(tensor.name) + struct.pack(f"<I{n_dims}QIQ", n_dims, *tensor.shape, tensor.type.id, offset)
        offset = padded(offset + tensor.n_bytes, alignment)
    head = MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(pairs)) + b"".join(pairs) + table
    return head + padding(len(head), alignment)


def padding(n_bytes: int, alignment: int = DEFAULT_ALIGNMENT) -> bytes:
    """Return the zeros that follow `n_bytes` of data."""
    return bytes(padded(n_bytes, alignment) - n_bytes)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw
