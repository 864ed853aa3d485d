"""What moves cells: llama.cpp's memory and context, as far as the pool needs them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class CellMemory(Protocol):
    """What the pool needs of a context's memory (see `localllm.llama.KVMemory`)."""

    def remove(self, seq_id: int, p0: int = 0, p1: int = -1) -> bool: ...
    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None: ...
    def shift(self, seq_id: int, p0: int, p1: int, delta: int) -> None: ...
    def first_position(self, seq_id: int) -> int: ...


class CellStore(Protocol):
    """What the pool needs to move a sequence's cells out and back (see `localllm.llama.Context`)."""

    def save_sequence(self, seq_id: int) -> NDArray[np.uint8]: ...
    def restore_sequence(self, seq_id: int, data: NDArray[np.uint8]) -> bool: ...
