"""The pool of KV cells: who holds which, counted exactly.

llama.cpp does not say how many cells are in use, and cells are shared between sequences, so the pool keeps its own
books: a sequence is a list of spans, and sequences that share a prefix share its spans. Every change of the KV memory
goes through here, so that the books stay true.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from localllm.engine.branches import Branches
from localllm.engine.cell_memory import CellMemory, CellStore


class _Span:
    """A run of cells held by the same sequences."""

    __slots__ = ("n", "n_idle", "n_live")

    def __init__(self, n: int, n_live: int, n_idle: int) -> None:
        self.n = n
        self.n_live = n_live
        self.n_idle = n_idle

    @property
    def is_shared(self) -> bool:
        return self.n_live + self.n_idle > 1


class CellPool:
    """Hands out sequence ids and cells. A sequence is live (running) or idle (kept for its prefix).

    Args:
        memory: of the context.
        store: the context, which copies cells out and back.
        n_cells: that there are.
        n_seq_max: ids of sequences.
        n_branch_ids: ids after those, for branches of live sequences.
        n_window: tokens that layers with sliding windows see; 0 where there are none. What these layers do not see any
            more is lost when a sequence is copied out, and may be overwritten (llama_kv_cache::state_write, find_slot).
    """

    def __init__(
        self,
        memory: CellMemory,
        store: CellStore,
        n_cells: int,
        n_seq_max: int,
        *,
        n_branch_ids: int = 0,
        n_window: int = 0,
    ) -> None:
        self._memory = memory
        self._branches = Branches(memory, range(n_seq_max, n_seq_max + n_branch_ids))
        self._store = store
        self._free_ids = list(range(n_seq_max - 1, -1, -1))
        self._spans: dict[int, list[_Span]] = {}
        self._idle: set[int] = set()
        self.n_cells = n_cells
        self.n_window = n_window
        self.n_used = 0
        self.n_idle = 0

    @property
    def n_free(self) -> int:
        return self.n_cells - self.n_used

    @property
    def n_ids_free(self) -> int:
        return len(self._free_ids)

    @property
    def n_ids_used(self) -> int:
        return len(self._spans) + self._branches.n_ids_used

    @property
    def n_branch_ids(self) -> int:
        """Branches that all sequences together can have in one step."""
        return self._branches.n_ids

    def length(self, seq_id: int) -> int:
        """Return the number of positions that the sequence holds."""
        return sum(span.n for span in self._spans[seq_id])

    def allocate(self) -> int:
        """Return the id of a new, empty, live sequence. There must be a free id."""
        seq_id = self._free_ids.pop()
        self._spans[seq_id] = []
        return seq_id

    def grow(self, seq_id: int, n: int) -> None:
        """Count `n` cells that the next decode takes for a live sequence."""
        spans = self._spans[seq_id]
        if spans and spans[-1].n_live == 1 and spans[-1].n_idle == 0:
            spans[-1].n += n
        else:
            spans.append(_Span(n, 1, 0))
        self.n_used += n

    def share(self, src: int, dst: int, n: int) -> None:
        """Let the empty live sequence `dst` hold the first `n` cells of `src`."""
        self._memory.copy(src, dst, 0, n)
        shared = self._split(src, n)
        for span in shared:
            self._count(span, live=1)
        self._spans[dst] = list(shared)

    def can_cut(self, seq_id: int, n: int) -> bool:
        """Whether the first `n` cells are all that a token after them sees; windows may have passed some."""
        return not self.n_window or 0 <= self._memory.first_position(seq_id) <= max(0, n - self.n_window)

    def shrink(self, seq_id: int, n: int) -> bool:
        """Keep only the first `n` cells, and nothing of branches; False if this memory cannot be cut."""
        self.prune(seq_id)
        if n < self._branches.n_shared(seq_id):
            self._release_branches(seq_id)
        if not self._memory.remove(seq_id, n, -1):
            return False
        kept = self._split(seq_id, n)
        for span in self._spans[seq_id][len(kept) :]:
            self._drop(span, seq_id)
        self._spans[seq_id] = kept
        return True

    def fork(self, seq_id: int, n_ids: int, n: int) -> list[int]:
        """Give a live sequence branches that share its cells, and count `n` more that the next decode takes for them.

        Returns:
            The ids of the branches: [n_ids]. They are the sequence's for one step, which ends with `prune`.
        """
        self.n_used += n
        return self._branches.fork(seq_id, self.length(seq_id), n_ids, n)

    def adopt(self, seq_id: int, branch: int) -> None:
        """The cell after a sequence's last, of its `branch`-th branch, becomes its own."""
        self._branches.adopt(seq_id, branch, self.length(seq_id))
        self.n_used -= 1
        self.grow(seq_id, 1)

    def prune(self, seq_id: int) -> None:
        """Free the cells of branches that were not adopted."""
        self.n_used -= self._branches.prune(seq_id)

    def _release_branches(self, seq_id: int) -> None:
        self.n_used -= self._branches.release(seq_id)

    def slide_cost(self, seq_id: int, n_head: int, n: int) -> int:
        """Return how many free cells `slide` takes; below 0 where it gives some back."""
        head, gone, moved = self._cut_at(seq_id, n_head, n)
        own = sum(span.n for span in (*head, *gone, *moved) if not span.is_shared)
        if any(span.is_shared for span in moved):
            return sum(span.n for span in (*head, *moved)) - own
        return -sum(span.n for span in gone if not span.is_shared)

    def slide(self, seq_id: int, n_head: int, n: int) -> bool:
        """Forget a live sequence's `n` cells after its first `n_head`; those behind them move up by `n` positions.

        Cells that others hold too are copied first: a cell has one position, whoever holds it. `slide_cost` cells
        must be free. The keys are rotated by the next decode; until then the sequence must not be saved.

        Returns:
            False if llama.cpp could not copy the cells; the sequence holds none then.
        """
        self._release_branches(seq_id)
        head, gone, moved = self._cut_at(seq_id, n_head, n)
        self._memory.remove(seq_id, n_head, n_head + n)
        for span in gone:
            self._drop(span, seq_id)
        self._spans[seq_id] = [*head, *moved]
        if any(span.is_shared for span in moved) and not self._unshare(seq_id):
            return False
        self._memory.shift(seq_id, n_head + n, -1, -n)
        return True

    def _cut_at(self, seq_id: int, n_head: int, n: int) -> tuple[list[_Span], list[_Span], list[_Span]]:
        """Return the spans of the first `n_head` cells, of the `n` after them, and of the rest."""
        n_before = len(self._split(seq_id, n_head))
        n_until = len(self._split(seq_id, n_head + n))
        spans = self._spans[seq_id]
        return spans[:n_before], spans[n_before:n_until], spans[n_until:]

    def _unshare(self, seq_id: int) -> bool:
        """Move a live sequence to cells of its own; False, and it has none, if llama.cpp would not."""
        data, n = self.save(seq_id), self.length(seq_id)
        self._memory.remove(seq_id, -1, -1)
        for span in self._spans[seq_id]:
            self._drop(span, seq_id)
        self._spans[seq_id] = []
        if not self._store.restore_sequence(seq_id, data):
            self._memory.remove(seq_id, -1, -1)
            return False
        self.grow(seq_id, n)
        return True

    def release(self, seq_id: int) -> None:
        """Give the sequence's cells and its id back, and its branches."""
        self._release_branches(seq_id)
        self._memory.remove(seq_id, -1, -1)
        for span in self._spans.pop(seq_id):
            self._drop(span, seq_id)
        self._idle.discard(seq_id)
        self._free_ids.append(seq_id)

    def park(self, seq_id: int) -> None:
        """A live sequence becomes idle, and has no more branches."""
        self._release_branches(seq_id)
        self._idle.add(seq_id)
        for span in self._spans[seq_id]:
            self._count(span, live=-1, idle=1)

    def save(self, seq_id: int) -> NDArray[np.uint8]:
        """Copy the sequence's cells out of the cache."""
        return self._store.save_sequence(seq_id)

    def restore(self, data: NDArray[np.uint8], n: int) -> int | None:
        """Put `n` saved cells back as a new live sequence; None if llama.cpp would not."""
        seq_id = self.allocate()
        if not self._store.restore_sequence(seq_id, data):
            self.release(seq_id)
            return None
        self.grow(seq_id, n)
        return seq_id

    def _split(self, seq_id: int, n: int) -> list[_Span]:
        """Cut the spans so that one ends at `n` cells, for all holders alike; return the spans up to there."""
        spans = self._spans[seq_id]
        total = 0
        for i, span in enumerate(spans):
            if total == n:
                return spans[:i]
            if total + span.n > n:
                self._cut(span, n - total)
                return spans[: i + 1]
            total += span.n
        return list(spans)

    def _cut(self, span: _Span, n: int) -> None:
        tail = _Span(span.n - n, span.n_live, span.n_idle)
        span.n = n
        for spans in self._spans.values():
            for i, held in enumerate(spans):
                if held is span:
                    spans.insert(i + 1, tail)
                    break

    def _count(self, span: _Span, *, live: int = 0, idle: int = 0) -> None:
        """Change who holds a span, and the totals with it."""
        was_held, was_idle = span.n_live + span.n_idle > 0, span.n_live == 0
        span.n_live += live
        span.n_idle += idle
        is_held = span.n_live + span.n_idle > 0
        is_idle = is_held and span.n_live == 0
        self.n_idle += span.n * (is_idle - (was_held and was_idle))
        self.n_used += span.n * (is_held - was_held)

    def _drop(self, span: _Span, seq_id: int) -> None:
        if seq_id in self._idle:
            self._count(span, idle=-1)
        else:
            self._count(span, live=-1)
