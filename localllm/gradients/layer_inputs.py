"""What each layer reads of each chunk, kept from the way forward for the way back: in memory, or in a file."""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from localllm.errors import NotEnoughDisk
from localllm.gguf.new_file import check_room
from localllm.gradients.tensors import Array


class LayerInputs:
    """Arrays [n_ctx, n_embd] by layer and chunk.

    Args:
        shape: (n_layer, n_chunks, n_ctx, n_embd).
        dtype: of the arrays.
        memory_bytes: if all take more, they are kept in a file without a name, which ends with this process.
        folder: where that file is.

    Raises:
        NotEnoughDisk: the disk has no room for it.
    """

    def __init__(self, shape: tuple[int, int, int, int], dtype: DTypeLike, memory_bytes: int, folder: Path) -> None:
        self._dtype = np.dtype(dtype)
        self._shape = shape
        self._open_files = ExitStack()
        n_bytes = math.prod(shape) * self._dtype.itemsize
        self._file: IO[bytes] | None = None
        if n_bytes <= memory_bytes:
            self._arrays: Array = np.empty(shape, self._dtype)
        else:
            check_room(folder / "layer inputs", n_bytes)
            self._file = self._open_files.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115

    def put(self, layer: int, chunk: int, x: Array) -> None:
        """Keep a copy of what a layer reads.

        Raises:
            NotEnoughDisk: the disk is full.
        """
        if self._file is None:
            self._arrays[layer, chunk] = x
            return
        try:
            self._file.seek(self._offset(layer, chunk))
            self._file.write(np.ascontiguousarray(x).data)
        except OSError as error:
            raise NotEnoughDisk(
                f"Cannot keep what the layers read: {error.strerror}.", hint="Free some room, or use fewer --kl-chunks."
            ) from error

    def get(self, layer: int, chunk: int) -> Array:
        """Return what was kept: [n_ctx, n_embd]."""
        if self._file is None:
            kept: Array = self._arrays[layer, chunk]
            return kept
        self._file.seek(self._offset(layer, chunk))
        data = self._file.read(self._chunk_bytes)
        return np.frombuffer(data, self._dtype).reshape(self._shape[2:])

    @property
    def _chunk_bytes(self) -> int:
        return math.prod(self._shape[2:]) * self._dtype.itemsize

    def _offset(self, layer: int, chunk: int) -> int:
        return (layer * self._shape[1] + chunk) * self._chunk_bytes

    def close(self) -> None:
        """Free all; closing twice is harmless."""
        self._open_files.close()
        self._arrays = np.empty(0, self._dtype)

    def __enter__(self) -> LayerInputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
