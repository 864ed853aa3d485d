"""The values of a header's metadata: scalars as Python values, arrays as references, read on demand."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from localllm.gguf.cursor import Cursor
from localllm.gguf.problems import invalid, quoted
from localllm.gguf.source import read_bytes

TEXT = 8
ARRAY = 9
ALIGNMENT_KEY = "general.alignment"
MAX_KEY_BYTES = 65_535
MAX_TEXT_BYTES = 64 << 20
"""Bytes of one metadata string. Some files carry a whole tokenizer.json, of 10–20 MB, in one."""

NUMBERS: dict[int, tuple[str, struct.Struct]] = {
    0: ("u8", struct.Struct("<B")),
    1: ("i8", struct.Struct("<b")),
    2: ("u16", struct.Struct("<H")),
    3: ("i16", struct.Struct("<h")),
    4: ("u32", struct.Struct("<I")),
    5: ("i32", struct.Struct("<i")),
    6: ("f32", struct.Struct("<f")),
    7: ("bool", struct.Struct("<?")),
    10: ("u64", struct.Struct("<Q")),
    11: ("i64", struct.Struct("<q")),
    12: ("f64", struct.Struct("<d")),
}
"""Name and layout of each numeric value type, by id."""

_LAYOUTS = dict(NUMBERS.values())


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """An array in a header, checked to lie inside the file, and read when asked for."""

    path: Path
    element_type: str
    """"u8" to "f64", "bool", or "str"."""
    length: int
    """Elements."""
    offset: int
    """Where the first element starts in the file, in bytes."""
    n_bytes: int

    def __len__(self) -> int:
        return self.length

    def read(self, limit: int | None = None) -> list[bool | int | float | str]:
        """Read the elements, or the first `limit` of them.

        Bytes of a string that are not UTF-8 become U+FFFD; vocabularies do hold such tokens.

        Raises:
            ModelNotFound: the file is gone.
            InvalidModelFile: the file has changed since its header was read.
        """
        n = self.length if limit is None else min(limit, self.length)
        if self.element_type == "str":
            return [text.decode("utf-8", "replace") for text in self.read_texts(n)]
        layout = _LAYOUTS[self.element_type]
        data = read_bytes(self.path, self.offset, n * layout.size)
        return [value for (value,) in layout.iter_unpack(data)]

    def read_texts(self, limit: int | None = None) -> list[bytes]:
        """Read the elements of an array of strings, or the first `limit` of them, as bytes."""
        data = read_bytes(self.path, self.offset, self.n_bytes)
        texts: list[bytes] = []
        pos = 0
        for _ in range(self.length if limit is None else min(limit, self.length)):
            end = pos + 8 + int.from_bytes(data[pos : pos + 8], "little")
            if end > len(data):
                raise invalid(self.path, "has changed since its header was read", "Open it again.")
            texts.append(data[pos + 8 : end])
            pos = end
        return texts


MetadataValue = bool | int | float | str | ArrayRef


Span = tuple[int, int]
"""Where a pair, its key included, lies in the file: from which byte, up to which."""


def read_metadata(cursor: Cursor, n_pairs: int) -> tuple[dict[str, MetadataValue], dict[str, str], dict[str, Span]]:
    """Read all key-value pairs.

    Args:
        cursor: at the first key.
        n_pairs: how many there are.

    Returns:
        The values by key, the name of each value's type by key ("u32", "str", "arr[i32]"), and where each pair lies.

    Raises:
        InvalidModelFile: a pair is truncated, repeated, or of no known type.
    """
    values: dict[str, MetadataValue] = {}
    types: dict[str, str] = {}
    spans: dict[str, Span] = {}
    for index in range(n_pairs):
        start = cursor.pos
        key = read_key(cursor, index)
        if key in values:
            raise invalid(cursor.path, f"metadata key {quoted(key)} appears twice")
        values[key], types[key] = read_value(cursor, key)
        spans[key] = (start, cursor.pos)
    return values, types, spans


def read_key(cursor: Cursor, index: int) -> str:
    """Read the key of the pair number `index`, from 0.

    Raises:
        InvalidModelFile: it is no name, or truncated.
    """
    return cursor.name(f"metadata key {index}", MAX_KEY_BYTES)


def read_value(cursor: Cursor, key: str) -> tuple[MetadataValue, str]:
    """Read the value of a key that was just read; return it with the name of its type.

    Raises:
        InvalidModelFile: it is truncated, too long, or of no known type.
    """
    what = f"the value of {quoted(key)}"
    type_id = cursor.u32(f"the type of {quoted(key)}")
    if type_id == ARRAY:
        array = _read_array(cursor, what)
        return array, f"arr[{array.element_type}]"
    if type_id == TEXT:
        return cursor.raw(what, MAX_TEXT_BYTES).decode("utf-8", "replace"), "str"
    if type_id not in NUMBERS:
        raise invalid(cursor.path, f"{what} has the unknown type {type_id}; 0 to 12 are known")
    name, layout = NUMBERS[type_id]
    return cursor.scalar(layout, what), name


def _read_array(cursor: Cursor, what: str) -> ArrayRef:
    type_id = cursor.u32(f"the element type of {what}")
    length = cursor.u64(f"the length of {what}")
    if type_id == ARRAY:
        raise invalid(cursor.path, f"{what} is an array of arrays, which llama.cpp does not read")
    start = cursor.pos
    if type_id == TEXT:
        name = "str"
        cursor.skip_texts(length, what)
    elif type_id in NUMBERS:
        name, layout = NUMBERS[type_id]
        cursor.skip_numbers(length, layout.size, what)
    else:
        raise invalid(cursor.path, f"{what} has elements of the unknown type {type_id}; 0 to 12 are known")
    return ArrayRef(cursor.path, name, length, start, cursor.pos - start)


def read_alignment(path: Path, values: dict[str, MetadataValue], types: dict[str, str]) -> int:
    """Return the alignment of the tensor data in bytes: 32, unless the metadata says otherwise.

    Raises:
        InvalidModelFile: it is not a uint32, or not a power of two from 8 to 16 Mi.
    """
    value = values.get(ALIGNMENT_KEY, 32)
    if types.get(ALIGNMENT_KEY, "u32") != "u32" or not isinstance(value, int):
        raise invalid(path, f"{ALIGNMENT_KEY} is of type {types[ALIGNMENT_KEY]} where u32 is demanded")
    if not 8 <= value <= 1 << 24 or value & (value - 1):
        raise invalid(path, f"{ALIGNMENT_KEY} is {value:,}; a power of two from 8 to {1 << 24:,} is demanded")
    return value
