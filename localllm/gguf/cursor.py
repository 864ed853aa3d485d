"""Reading a header's fields in order, each checked against the file's end before it is read."""

from __future__ import annotations

import struct
from mmap import mmap
from pathlib import Path

from localllm.errors import InvalidModelFile
from localllm.gguf.problems import DAMAGED, TRUNCATED, invalid
from localllm.gguf.source import MAX_HEADER_BYTES

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

MAX_TEXTS = 4_000_000
"""Strings in all the arrays of a header. Published vocabularies and merges hold up to about a million."""


class Cursor:
    """A position in the mapped start of a file.

    Attributes:
        path: the file, for messages.
        pos: the offset of the next byte to read.
        end: bytes that may be read: the file's, or `MAX_HEADER_BYTES` of them.
    """

    def __init__(self, path: Path, data: mmap, n_bytes: int) -> None:
        self.path = path
        self.pos = 0
        self.end = len(data)
        self._data = data
        self._n_bytes = n_bytes
        self._n_texts_left = MAX_TEXTS

    @property
    def n_left_bytes(self) -> int:
        """Bytes of the file, not of the mapped part, that follow the position."""
        return self._n_bytes - self.pos

    def u32(self, what: str) -> int:
        """Read an unsigned 32-bit integer; `what` names it in messages."""
        return int(self.scalar(_U32, what))

    def u64(self, what: str) -> int:
        """Read an unsigned 64-bit integer; `what` names it in messages."""
        return int(self.scalar(_U64, what))

    def scalar(self, layout: struct.Struct, what: str) -> int | float | bool:
        """Read one number of the given layout."""
        at = self.skip(layout.size, what)
        value: int | float | bool = layout.unpack_from(self._data, at)[0]
        return value

    def raw(self, what: str, max_bytes: int) -> bytes:
        """Read a string (a 64-bit length, then bytes) of at most `max_bytes`."""
        length = self.u64(f"the length of {what}")
        if length > max_bytes and length <= self.n_left_bytes:
            raise invalid(self.path, f"{what} takes {length:,} bytes; at most {max_bytes:,} are allowed")
        at = self.skip(length, what)
        return self._data[at : at + length]

    def name(self, what: str, max_bytes: int) -> str:
        """Read a string that names something: UTF-8, not empty, without zero bytes."""
        raw = self.raw(what, max_bytes)
        if not raw or b"\0" in raw:
            raise invalid(self.path, f"{what} is {'not text: it holds a zero byte' if raw else 'empty'}")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise invalid(self.path, f"{what} is not UTF-8, at its byte {error.start}") from error

    def skip(self, n_bytes: int, what: str) -> int:
        """Pass over `n_bytes`, which must be there, and return where they start."""
        at = self.pos
        if n_bytes > self.end - at:
            raise self._beyond(at + n_bytes, what)
        self.pos = at + n_bytes
        return at

    def skip_texts(self, length: int, what: str) -> None:
        """Pass over an array of `length` strings, checking that every one lies inside the file.

        A vocabulary has some 150,000 of them, so this loop is what reading a header takes: no call but the
        unpacking, and no bounds check, since the unpacking does one.
        """
        if length > self.n_left_bytes // 8:
            raise self._too_many(length, what)
        self._n_texts_left -= length
        if self._n_texts_left < 0:
            raise invalid(self.path, f"more than {MAX_TEXTS:,} strings in its metadata arrays")
        data, pos, unpack = self._data, self.pos, _U64.unpack_from
        try:
            for _ in range(length):
                pos += 8 + unpack(data, pos)[0]
        except (struct.error, OverflowError, IndexError) as error:
            raise self._beyond(pos + 8, what) from error
        self.skip(pos - self.pos, what)

    def skip_numbers(self, length: int, size: int, what: str) -> None:
        """Pass over an array of `length` numbers of `size` bytes."""
        if length > self.n_left_bytes // size:
            raise self._too_many(length, what)
        self.skip(length * size, what)

    def _too_many(self, length: int, what: str) -> InvalidModelFile:
        problem = f"{what} claims {length:,} elements, and only {self.n_left_bytes:,} bytes are left in the file"
        return invalid(self.path, problem, DAMAGED)

    def _beyond(self, needed: int, what: str) -> InvalidModelFile:
        if self._n_bytes > MAX_HEADER_BYTES >= self.end:
            return invalid(self.path, f"{what} is not within the first {MAX_HEADER_BYTES:,} bytes of the file")
        problem = f"is truncated or damaged: {what} ends at byte {needed:,}, the file at byte {self._n_bytes:,}"
        return invalid(self.path, problem, TRUNCATED)
