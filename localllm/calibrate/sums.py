"""Sums of squares of every input's columns: what llama.cpp's importance matrices hold, in float64.

They are small, so they are saved from time to time: a killed run goes on from there, and gives the same bytes as one
that was not, because every number is added in the same order.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.gguf.new_file import new_file

SAVE_S = 30.0
"""How often they are saved: what a killed run loses of them."""


class SquareSums:
    """The sums and counts of all inputs, and how many chunks they are of."""

    def __init__(self, inputs: Sequence[MatrixInput]) -> None:
        self._inputs = tuple(inputs)
        self._sums = {source.name: np.zeros((source.n_mats, source.n_cols)) for source in inputs}
        self._counts = {source.name: np.zeros(source.n_mats, dtype=np.int64) for source in inputs}
        self.n_chunks = 0

    def add(self, seen: Seen) -> None:
        self._sums[seen.source.name][seen.mat] += seen.squares
        self._counts[seen.source.name][seen.mat] += len(seen.rows)

    def entries(self) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.int64]]]:
        """Yield each weight's name, its sums [n_mats, n_cols] float64 and its counts of rows [n_mats] int64."""
        for source in self._inputs:
            for weight in source.weights:
                yield weight, self._sums[source.name], self._counts[source.name]

    def save(self, path: Path, key: str) -> None:
        """Write them to a file, which appears when it is whole.

        Args:
            path: where to.
            key: what they depend on; `load` wants the same.

        Raises:
            RequestError: it cannot be written.
            NotEnoughDisk: the disk is full.
        """
        arrays: dict[str, Any] = {f"sums {name}": array for name, array in self._sums.items()}
        arrays |= {f"counts {name}": array for name, array in self._counts.items()}
        with new_file(path) as file:
            np.savez(file, key=np.array(key), n_chunks=np.array(self.n_chunks), **arrays)

    def load(self, path: Path, key: str) -> bool:
        """Take over what was saved with this key; False, and nothing changed, if there is nothing whole of it."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if str(file["key"]) != key:
                    return False
                sums = {name: file[f"sums {name}"] for name in self._sums}
                counts = {name: file[f"counts {name}"] for name in self._counts}
                n_chunks = int(file["n_chunks"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return False
        self._sums, self._counts, self.n_chunks = sums, counts, n_chunks
        return True


class StoredSums:
    """Sums that are kept in a file, and begin with what is in it.

    Args:
        sums: empty ones.
        path: where they are kept.
        key: what they depend on.
    """

    def __init__(self, sums: SquareSums, path: Path, key: str) -> None:
        self.sums = sums
        self._path, self._key = path, key
        self._saved_at = time.monotonic()
        sums.load(path, key)

    def chunk_done(self, *, is_last: bool) -> None:
        """Count a chunk that has been added whole, and save if that is due.

        Raises:
            RequestError: the file cannot be written.
            NotEnoughDisk: the disk is full.
        """
        self.sums.n_chunks += 1
        if is_last or time.monotonic() - self._saved_at >= SAVE_S:
            self.sums.save(self._path, self._key)
            self._saved_at = time.monotonic()
