"""GGUF bytes written by hand, so that every field can be made wrong."""

from __future__ import annotations

import struct
from pathlib import Path

U8, I32, U32, U16, F32, TEXT, ARRAY, U64 = 0, 5, 4, 2, 6, 8, 9, 10
_FORMATS = {U8: "<B", I32: "<i", U32: "<I", U16: "<H", F32: "<f", U64: "<Q"}


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: int | float | str | bytes) -> bytes:
    """One metadata pair; bytes as a value are written as they are."""
    if isinstance(value, bytes):
        body = value
    else:
        body = text(value) if isinstance(value, str) else struct.pack(_FORMATS[kind], value)
    return text(key) + struct.pack("<I", kind) + body


def array(kind: int, length: int, body: bytes) -> bytes:
    return struct.pack("<IQ", kind, length) + body


def tensor(
    name: str | bytes,
    shape: tuple[int, ...] = (32, 2),
    kind: int = 0,
    offset: int = 0,
    n_dims: int | None = None,
) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape) if n_dims is None else n_dims, *shape)
    return text(name) + dims + struct.pack("<IQ", kind, offset)


ARCH = pair("general.architecture", TEXT, "llama")


def gguf_bytes(
    pairs: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    version: bytes = struct.pack("<I", 3),
    n_tensors: int | None = None,
    n_pairs: int | None = None,
    n_data: int = 4096,
    alignment: int = 32,
) -> bytes:
    """A file; counts are true unless given, and the data section is `n_data` zero bytes."""
    pairs = [ARCH] if pairs is None else pairs
    tensors = [tensor("a")] if tensors is None else tensors
    counts = struct.pack(
        "<QQ", len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs
    )
    head = b"GGUF" + version + counts + b"".join(pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + b"\0" * n_data


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
