from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from localllm.engine.cells import CellPool


class FakeMemory:
    """Cells as llama.cpp keeps them: each a position and a set of sequence ids."""

    def __init__(self) -> None:
        self.cells: list[tuple[int, set[int]]] = []

    def remove(self, seq_id: int, p0: int = 0, p1: int = -1) -> bool:
        for pos, holders in self.cells:
            if max(p0, 0) <= pos and (p1 < 0 or pos < p1):
                holders.discard(seq_id)
        self.cells = [c for c in self.cells if c[1]]
        return True

    def shift(self, seq_id: int, p0: int, p1: int, delta: int) -> None:
        self.cells = [(pos + delta if seq_id in holders and pos >= p0 else pos, holders) for pos, holders in self.cells]

    def positions(self, seq_id: int) -> list[int]:
        return sorted(pos for pos, holders in self.cells if seq_id in holders)

    def first_position(self, seq_id: int) -> int:
        return min(self.positions(seq_id), default=-1)

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        for pos, holders in self.cells:
            if src in holders and p0 <= pos and (p1 < 0 or pos < p1):
                holders.add(dst)

    def fill(self, seq_id: int, p0: int, n: int) -> None:
        self.cells += [(p0 + i, {seq_id}) for i in range(n)]

    def save_sequence(self, seq_id: int) -> NDArray[np.uint8]:
        return np.array(self.positions(seq_id), dtype=np.int32).view(np.uint8)

    def restore_sequence(self, seq_id: int, data: NDArray[np.uint8]) -> bool:
        self.cells += [(int(pos), {seq_id}) for pos in data.view(np.int32)]
        return True


class PoolMachine(RuleBasedStateMachine):
    """Random lives of sequences; the pool's books must equal a count of the real cells after every step."""

    @initialize()
    def start(self) -> None:
        self.memory = FakeMemory()
        self.pool = CellPool(self.memory, self.memory, n_cells=200, n_seq_max=6, n_branch_ids=5)
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
    @rule(data=st.data(), depths=st.lists(st.integers(1, 3), min_size=1, max_size=5))
    def look_ahead(self, data: st.DataObject, depths: list[int]) -> None:
        """One step: branches of some depths behind a next token that all hold, and part of one is adopted."""
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        start, n_used = self.pool.length(seq_id), self.pool.n_used
        ids = self.pool.fork(seq_id, len(depths), sum(depths))
        self.pool.grow(seq_id, 1)
        assert all(self.memory.positions(branch) == list(range(start)) for branch in ids)
        self.memory.cells.append((start, {seq_id, *ids}))
        for branch, depth in zip(ids, depths, strict=True):
            self.memory.fill(branch, start + 1, depth)
        assert self.pool.n_used == n_used + 1 + sum(depths) == len(self.memory.cells)
        winner = data.draw(st.integers(0, len(depths) - 1))
        n_adopted = data.draw(st.integers(0, depths[winner]))
        for _ in range(n_adopted):
            self.pool.adopt(seq_id, winner)
        end = data.draw(st.sampled_from(["prune", "shrink", "release"]))
        if end == "prune":
            self.pool.prune(seq_id)
            assert self.pool.length(seq_id) == start + 1 + n_adopted
        elif end == "shrink":
            self.pool.shrink(seq_id, data.draw(st.integers(0, self.pool.length(seq_id))))
        else:
            self.pool.release(seq_id)
            self.live.discard(seq_id)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        self.pool.shrink(seq_id, data.draw(st.integers(0, self.pool.length(seq_id))))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def slide(self, data: st.DataObject) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.live)))
        n_head = data.draw(st.integers(0, self.pool.length(seq_id)))
        n = data.draw(st.integers(0, self.pool.length(seq_id) - n_head))
        n_free = self.pool.n_free
        cost = self.pool.slide_cost(seq_id, n_head, n)
        assert self.pool.slide(seq_id, n_head, n)
        assert self.pool.n_free == n_free - cost

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
            assert self.memory.positions(seq_id) == list(range(self.pool.length(seq_id)))
        branches = {h for _, holders in self.memory.cells for h in holders} - self.live - self.idle
        assert branches <= set(range(6, 11))
        n_branches = self.pool.n_ids_used - len(self.live | self.idle)
        assert len(branches) <= n_branches <= 5
        for _, holders in self.memory.cells:
            assert holders & (self.live | self.idle)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_streams_of_one_step_take_ids_that_others_hold_and_do_not_use() -> None:
    memory = FakeMemory()
    pool = CellPool(memory, memory, n_cells=200, n_seq_max=6, n_branch_ids=5)
    first, second = pool.allocate(), pool.allocate()
    for seq_id in (first, second):
        memory.fill(seq_id, 0, 3)
        pool.grow(seq_id, 3)
    assert len(pool.fork(first, 5, 0)) == 5
    pool.prune(first)
    ids = [pool.fork(first, 2, 0), pool.fork(second, 3, 0)]
    assert len({*ids[0], *ids[1]}) == 5
    for seq_id, branches in zip((first, second), ids, strict=True):
        others = {first, second} - {seq_id}
        for branch in branches:
            holders = [h for _, h in memory.cells if branch in h]
            assert len(holders) == 3 and all(seq_id in h and not others & h for h in holders)
