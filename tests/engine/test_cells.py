from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from localllm.engine.cells import CellPool


class FakeMemory:
    """Cells as llama.cpp keeps them: each a set of sequence ids; positions follow from order."""

    def __init__(self) -> None:
        self.cells: list[tuple[int, set[int]]] = []

    def remove(self, seq_id: int, p0: int = 0, p1: int = -1) -> bool:
        for pos, holders in self.cells:
            if pos >= max(p0, 0):
                holders.discard(seq_id)
        self.cells = [c for c in self.cells if c[1]]
        return True

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        for pos, holders in self.cells:
            if src in holders and pos < p1:
                holders.add(dst)

    def fill(self, seq_id: int, p0: int, n: int) -> None:
        self.cells += [(p0 + i, {seq_id}) for i in range(n)]

    def save_sequence(self, seq_id: int) -> NDArray[np.uint8]:
        return np.zeros(sum(seq_id in h for _, h in self.cells), dtype=np.uint8)

    def restore_sequence(self, seq_id: int, data: NDArray[np.uint8]) -> bool:
        self.fill(seq_id, 0, data.size)
        return True


class PoolMachine(RuleBasedStateMachine):
    """Random lives of sequences; the pool's books must equal a count of the real cells after every step."""

    @initialize()
    def start(self) -> None:
        self.memory = FakeMemory()
        self.pool = CellPool(self.memory, self.memory, n_cells=200, n_seq_max=6)
        self.live: set[int] = set()
        self.idle: set[int] = set()

    @precondition(lambda self: self.pool.n_ids_free)
    @rule()
    def allocate(self) -> None:
        self.live.add(self.pool.allocate())

    @precondition(lambda self: self.live)
    @rule(data=st.data(), n=st.integers(1, 9))
    def grow(self, data: st.DataObject, n: int) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        self.memory.fill(seq_id, self.pool.length(seq_id), n)
        self.pool.grow(seq_id, n)

    @precondition(lambda self: self.pool.n_ids_free and (self.live or self.idle))
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        src = data.draw(st.sampled_from(sorted(self.live | self.idle)))
        n = data.draw(st.integers(0, self.pool.length(src)))
        dst = self.pool.allocate()
        self.pool.share(src, dst, n)
        self.live.add(dst)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        self.pool.shrink(seq_id, data.draw(st.integers(0, self.pool.length(seq_id))))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        self.pool.park(seq_id)
        self.live.discard(seq_id)
        self.idle.add(seq_id)

    @precondition(lambda self: self.live or self.idle)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live | self.idle)))
        self.pool.release(seq_id)
        self.live.discard(seq_id)
        self.idle.discard(seq_id)

    @precondition(lambda self: self.pool.n_ids_free and (self.live or self.idle))
    @rule(data=st.data())
    def move_to_ram_and_back(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live | self.idle)))
        n = self.pool.length(seq_id)
        new = self.pool.restore(self.pool.save(seq_id), n)
        assert new is not None
        self.live.add(new)

    @invariant()
    def books_equal_the_cells(self) -> None:
        if not hasattr(self, "pool"):
            return
        assert self.pool.n_used == len(self.memory.cells)
        assert self.pool.n_idle == sum(not (holders & self.live) for _, holders in self.memory.cells)
        for seq_id in self.live | self.idle:
            assert self.pool.length(seq_id) == sum(seq_id in holders for _, holders in self.memory.cells)
        assert self.pool.n_ids_used == len(self.live | self.idle)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
