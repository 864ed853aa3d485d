"""llama.cpp's importance matrices in the .dat form that GGUF replaced in 2025; many are still published.

int32 number of entries; of each: int32 length and bytes of its name, int32 number of chunks, int32 number of sums, and
the sums as float32. Then, in later files, int32 number of chunks of all, int32 length and bytes of the text's path.

Source: `common_imatrix_load_legacy` in imatrix-loader.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from localllm.errors import InvalidModelFile
from localllm.gguf.problems import invalid, quoted
from localllm.gguf.tensors import MAX_NAME_BYTES

MAX_ENTRIES = 65_536
_NEITHER = "is no importance matrix, neither in the GGUF form nor in the older .dat form"
_HINT = "Give a file that `localllm imatrix` or llama.cpp's imatrix tool has made."


@dataclass(frozen=True)
class DatFile:
    """What a .dat file holds."""

    entries: dict[str, tuple[NDArray[np.float32], int]]
    """By tensor name: [n_cols] or [n_expert * n_cols] float32 sums of mean squares, and over how many chunks."""
    n_chunks: int
    dataset: str
    """The path of the text; empty where the file does not say."""


def read_dat(path: Path) -> DatFile:
    """Read a .dat file.

    Raises:
        InvalidModelFile: it is none, or it ends too early.
    """
    reader = _Reader(path, path.read_bytes())
    n_entries = reader.number()
    if not 1 <= n_entries <= MAX_ENTRIES:
        raise invalid(path, _NEITHER, _HINT)
    entries: dict[str, tuple[NDArray[np.float32], int]] = {}
    for _ in range(n_entries):
        name = reader.text(MAX_NAME_BYTES)
        n_chunks, n_sums = reader.number(), reader.number()
        if not name or n_sums < 1:
            raise reader.damaged()
        if name in entries:
            raise invalid(path, f"has two entries for {quoted(name)}", _HINT)
        entries[name] = (reader.floats(n_sums), n_chunks)
    if reader.is_at_end:
        return DatFile(entries, 0, "")
    return DatFile(entries, max(reader.number(), 0), "" if reader.is_at_end else reader.text(1 << 16))


class _Reader:
    """A position in the file's bytes; reading past their end is an error."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data
        self._pos = 0

    @property
    def is_at_end(self) -> bool:
        return self._pos == len(self._data)

    def number(self) -> int:
        return int.from_bytes(self._take(4), "little", signed=True)

    def text(self, max_bytes: int) -> str:
        n_bytes = self.number()
        if not 0 <= n_bytes <= max_bytes:
            raise self.damaged()
        return self._take(n_bytes).split(b"\0", 1)[0].decode("utf-8", "replace")

    def floats(self, n: int) -> NDArray[np.float32]:
        return np.frombuffer(self._take(4 * n), dtype="<f4").astype(np.float32)

    def damaged(self) -> InvalidModelFile:
        return invalid(self._path, f"{_NEITHER}, or a damaged one (at byte {self._pos:,})", _HINT)

    def _take(self, n_bytes: int) -> bytes:
        end = self._pos + n_bytes
        if end > len(self._data):
            raise self.damaged()
        taken = self._data[self._pos : end]
        self._pos = end
        return taken
