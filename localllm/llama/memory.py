"""The KV cells of a context, by sequence and position."""

from __future__ import annotations

from typing import Any

from localllm.llama.library import library


class KVMemory:
    """Which sequence holds which positions. Positions are [p0, p1); -1 as p1 means to the end.

    In a unified cache, `copy` shares cells between sequences: shifting one then moves the other's positions too.
    """

    def __init__(self, handle: Any) -> None:
        self._lib = library()
        self._raw = handle

    @property
    def _handle(self) -> Any:
        if not self._raw:
            raise RuntimeError("the context is closed")
        return self._raw

    def detach(self) -> None:
        """Refuse further use; the context does this when it is closed."""
        self._raw = None

    def remove(self, seq_id: int, p0: int = 0, p1: int = -1) -> bool:
        """Forget a range; False if this memory cannot be cut there (recurrent models)."""
        return bool(self._lib.llama_memory_seq_rm(self._handle, seq_id, p0, p1))

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        """Let `dst` share the cells of `src` in the range."""
        self._lib.llama_memory_seq_cp(self._handle, src, dst, p0, p1)

    def keep(self, seq_id: int) -> None:
        """Forget every other sequence."""
        self._lib.llama_memory_seq_keep(self._handle, seq_id)

    def shift(self, seq_id: int, p0: int, p1: int, delta: int) -> None:
        """Move positions by `delta`; keys are re-rotated at the next decode."""
        self._lib.llama_memory_seq_add(self._handle, seq_id, p0, p1, delta)

    def last_position(self, seq_id: int) -> int:
        """Return the highest position of the sequence, or -1 if it is empty."""
        return int(self._lib.llama_memory_seq_pos_max(self._handle, seq_id))

    def first_position(self, seq_id: int) -> int:
        """Return the lowest position of the sequence, or -1 if it is empty."""
        return int(self._lib.llama_memory_seq_pos_min(self._handle, seq_id))

    @property
    def can_shift(self) -> bool:
        return bool(self._lib.llama_memory_can_shift(self._handle))

    def clear(self) -> None:
        """Forget everything."""
        self._lib.llama_memory_clear(self._handle, False)
