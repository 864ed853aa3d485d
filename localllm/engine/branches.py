"""Sequence ids lent to streams for branches: continuations that are computed beside each other and mostly dropped.

A branch shares its stream's cells, and has its own behind them for one step. Sharing takes llama.cpp time for every
cell, so a stream keeps its branches from step to step, and they share only what has come since.
"""

from __future__ import annotations

from collections.abc import Iterable

from localllm.engine.cell_memory import CellMemory


class _Group:
    """The branches of one stream."""

    __slots__ = ("n_own", "n_shared", "used")

    def __init__(self) -> None:
        self.n_shared: dict[int, int] = {}
        """How many of the stream's cells each id shares."""
        self.used: list[int] = []
        """Those of the last step."""
        self.n_own = 0
        """Cells that the branches have and the stream has not."""


class Branches:
    """Lends ids of a reserve. The cells that it counts are for `CellPool` to add up.

    Args:
        memory: of the context.
        ids: the reserve, which nobody else uses.
    """

    def __init__(self, memory: CellMemory, ids: Iterable[int]) -> None:
        self._memory = memory
        self._free_ids = list(ids)
        self._groups: dict[int, _Group] = {}
        self.n_ids = len(self._free_ids)
        """Of the whole reserve: what one step can use."""

    @property
    def n_ids_used(self) -> int:
        return self.n_ids - len(self._free_ids)

    def n_shared(self, seq_id: int) -> int:
        """Return how many of a stream's cells its branches share at most."""
        group = self._groups.get(seq_id)
        return 0 if group is None else max(group.n_shared.values(), default=0)

    def fork(self, seq_id: int, n_cells: int, n_ids: int, n_own: int) -> list[int]:
        """Let `n_ids` branches share a stream's `n_cells` cells, and count `n_own` that the next decode takes for them.

        Branches that others do not use in this step are taken from them, if need be. All streams of a step together
        must not ask for more than `n_ids`.
        """
        group = self._groups.pop(seq_id, None) or _Group()
        self._groups[seq_id] = group  # At the end: the least recently used comes first.
        while len(group.n_shared) < n_ids:
            if not self._free_ids:
                self._take_from_others(seq_id)
            group.n_shared[self._free_ids.pop()] = 0
        group.used = list(group.n_shared)[:n_ids]
        for branch in group.used:
            if group.n_shared[branch] < n_cells:
                self._memory.copy(seq_id, branch, group.n_shared[branch], n_cells)
                group.n_shared[branch] = n_cells
        group.n_own = n_own
        return group.used

    def adopt(self, seq_id: int, branch: int, position: int) -> None:
        """Let a stream share the cell at a position of the `branch`-th of its branches."""
        group = self._groups[seq_id]
        self._memory.copy(group.used[branch], seq_id, position, position + 1)
        group.n_own -= 1

    def prune(self, seq_id: int) -> int:
        """Drop what a stream's branches hold beyond its shared cells; return how many cells that frees."""
        group = self._groups.get(seq_id)
        if group is None or not group.used:
            return 0
        for branch in group.used:
            self._memory.remove(branch, group.n_shared[branch], -1)
        n_freed, group.n_own, group.used = group.n_own, 0, []
        return n_freed

    def release(self, seq_id: int) -> int:
        """Take a stream's branches back; return how many cells that frees."""
        group = self._groups.pop(seq_id, None)
        if group is None:
            return 0
        for branch in group.n_shared:
            self._memory.remove(branch, -1, -1)
            self._free_ids.append(branch)
        return group.n_own

    def _take_from_others(self, seq_id: int) -> None:
        """Free ids: all of a stream that has no branches in this step, or one that a stream does not use in it."""
        others = [(s, group) for s, group in self._groups.items() if s != seq_id]
        idle = next((s for s, group in others if not group.used), None)
        if idle is not None:
            self.release(idle)
            return
        group, spare = next((group, b) for _, group in others for b in group.n_shared if b not in group.used)
        del group.n_shared[spare]
        self._memory.remove(spare, -1, -1)
        self._free_ids.append(spare)
