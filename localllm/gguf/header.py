"""Reading and checking a GGUF file's header, before llama.cpp sees the file.

llama.cpp ends the process over some damaged files, and others it loads as garbage; here each gives one clear
error. The data itself is not read, so a file whose weights were overwritten in place is not noticed.

Source: `ggml/src/gguf.cpp` and `src/llama-model-loader.cpp` of the pinned llama.cpp. Stricter than these in
bounds on counts and sizes, which keep the time that a hostile file can take under a second.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from localllm.gguf.cursor import Cursor
from localllm.gguf.problems import CONVERT, invalid, quoted
from localllm.gguf.source import MAGIC, mapped
from localllm.gguf.splits import check_first_part, check_tensor_count, part_paths, split_position
from localllm.gguf.tensors import TensorInfo, read_tensor_table
from localllm.gguf.values import MetadataValue, Span, read_alignment, read_metadata

VERSIONS = (2, 3)
MAX_PAIRS = 65_536
MAX_TENSORS = 65_536
"""Bounds on the two counts; published models have some 50 pairs and 3,000 tensors."""
ARCHITECTURE_KEY = "general.architecture"
_MIN_PAIR_BYTES = 8 + 1 + 4 + 1
_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8


@dataclass(frozen=True)
class GGUFHeader:
    """All that a model file says about itself, checked. For a split model: of all its parts."""

    path: Path
    version: int
    alignment: int
    """Of each tensor's data, in bytes."""
    n_bytes: int
    """Length of the file; of a split model, of all parts together."""
    metadata: Mapping[str, MetadataValue]
    metadata_types: Mapping[str, str]
    """The type of each value: "u32", "str", "arr[i32]", …"""
    metadata_spans: Mapping[str, Span]
    """Where each pair, its key included, lies in the (first) file: from which byte, up to which."""
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    """Where the tensor data starts in the (first) file, in bytes."""
    parts: tuple[Path, ...] = field(default=())
    """The files that make up the model, in order; one, unless it is split."""

    @property
    def architecture(self) -> str:
        """`general.architecture`, such as "llama"."""
        return str(self.metadata[ARCHITECTURE_KEY])

    def tensor(self, name: str) -> TensorInfo | None:
        """Return the tensor of this name, or None."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def read_header(path: str | Path) -> GGUFHeader:
    """Read and check the header of a GGUF model, and of its other parts if it is split.

    Args:
        path: the file; of a split model, the first part.

    Returns:
        The header. Its arrays are read from the file when asked for.

    Raises:
        ModelNotFound: there is no such file.
        InvalidModelFile: it is not a GGUF file that llama.cpp could load; the message says what is wrong.
    """
    path = Path(path)
    first = read_part(path)
    index, count = split_position(path, first.metadata, first.metadata_types)
    check_first_part(path, index, count)
    _check_architecture(first)
    if count == 1:
        return first
    return _join(first, [read_part(part) for part in part_paths(path, count)[1:]], count)


def read_part(path: Path) -> GGUFHeader:
    """Read and check the header of one GGUF file, whatever it holds: a model, a part of one, an importance matrix.

    Raises:
        ModelNotFound: there is no such file.
        InvalidModelFile: it is not a sound GGUF file.
    """
    with mapped(path) as (data, n_bytes):
        cursor = Cursor(path, data, n_bytes)
        version, n_tensors, n_pairs = read_preamble(cursor)
        metadata, types, spans = read_metadata(cursor, n_pairs)
        alignment = read_alignment(path, metadata, types)
        tensors, data_offset = read_tensor_table(cursor, n_tensors, alignment)
    return GGUFHeader(
        path=path,
        version=version,
        alignment=alignment,
        n_bytes=n_bytes,
        metadata=MappingProxyType(metadata),
        metadata_types=MappingProxyType(types),
        metadata_spans=MappingProxyType(spans),
        tensors=tensors,
        data_offset=data_offset,
        parts=(path,),
    )


def read_preamble(cursor: Cursor) -> tuple[int, int, int]:
    """Read what comes before the metadata: the version, and how many tensors and pairs there are.

    Raises:
        InvalidModelFile: the version is not read, or the counts are impossible.
    """
    cursor.skip(len(MAGIC), "the magic")
    version = _read_version(cursor)
    n_tensors = _read_count(cursor, "tensors", MAX_TENSORS, _MIN_TENSOR_BYTES)
    return version, n_tensors, _read_count(cursor, "metadata pairs", MAX_PAIRS, _MIN_PAIR_BYTES)


def _read_version(cursor: Cursor) -> int:
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if struct.unpack(">I", struct.pack("<I", version))[0] in (1, *VERSIONS):
        problem = "is big-endian, for another kind of processor"
        raise invalid(cursor.path, problem, "Download the little-endian file, or swap it with gguf_convert_endian.py.")
    if version == 1:
        raise invalid(cursor.path, "is GGUF version 1, which llama.cpp no longer reads; 2 and 3 it does", CONVERT)
    hint = "If the file is newer than localllm, update localllm; otherwise download the file again."
    raise invalid(cursor.path, f"is GGUF version {version:,}; 2 and 3 can be read", hint)


def _read_count(cursor: Cursor, what: str, allowed: int, min_bytes: int) -> int:
    count = cursor.u64(f"the number of {what}")
    if count > allowed:
        raise invalid(cursor.path, f"claims {count:,} {what}; at most {allowed:,} are allowed")
    if count * min_bytes > cursor.n_left_bytes:
        problem = f"claims {count:,} {what}, and only {cursor.n_left_bytes:,} bytes follow"
        raise invalid(cursor.path, problem)
    return count


def _check_architecture(header: GGUFHeader) -> None:
    value = header.metadata.get(ARCHITECTURE_KEY)
    if value is None:
        raise invalid(header.path, f"has no {ARCHITECTURE_KEY}, so it is no model that llama.cpp can run", CONVERT)
    if not isinstance(value, str) or not value:
        found = header.metadata_types[ARCHITECTURE_KEY] if value != "" else "empty"
        raise invalid(header.path, f"{ARCHITECTURE_KEY} is {found}, where a name is demanded", CONVERT)


def _join(first: GGUFHeader, others: list[GGUFHeader], count: int) -> GGUFHeader:
    tensors = list(first.tensors)
    seen = {tensor.name for tensor in tensors}
    for number, part in enumerate(others, start=1):
        position = split_position(part.path, part.metadata, part.metadata_types)
        if position != (number, count):
            said = f"part {position[0] + 1} of {position[1]}"
            problem = f"says that it is {said}; it is named part {number + 1} of {count}"
            raise invalid(part.path, problem)
        twice = next((tensor.name for tensor in part.tensors if tensor.name in seen), None)
        if twice is not None:
            raise invalid(part.path, f"tensor {quoted(twice)} is in an earlier part too")
        seen.update(tensor.name for tensor in part.tensors)
        tensors += [replace(tensor, part=number) for tensor in part.tensors]
    check_tensor_count(first.path, first.metadata, len(tensors))
    return replace(
        first,
        n_bytes=first.n_bytes + sum(part.n_bytes for part in others),
        tensors=tuple(tensors),
        parts=(first.path, *(part.path for part in others)),
    )
