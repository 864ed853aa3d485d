"""What is kept, and what happens when room is made for what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.engine.cells import CellPool
from localllm.engine.prefix_cache import PrefixCache
from tests.engine.test_cells import FakeMemory


def kept(pool: CellPool, memory: FakeMemory, cache: PrefixCache, first: int, n: int = 100) -> np.ndarray:
    tokens = np.arange(first, first + n, dtype=np.int32)
    seq_id = pool.allocate()
    pool.grow(seq_id, n)
    memory.fill(seq_id, 0, n)
    cache.keep(seq_id, (), tokens)
    return tokens


def test_prefix_that_is_pushed_out_of_ram_by_making_room_for_it_is_computed_anew() -> None:
    """RAM holds one prefix: moving another one there forgets the one that was just found."""
    memory = FakeMemory()
    pool = CellPool(memory, memory, 256, 8)
    probe = pool.allocate()
    memory.fill(probe, 0, 100)
    cache = PrefixCache(pool, max_host_bytes=memory.save_sequence(probe).nbytes)
    pool.release(probe)
    wanted = kept(pool, memory, cache, 0)
    assert cache.evict_one()
    kept(pool, memory, cache, 1000)
    match = cache.lookup((), wanted)
    assert match.n == 100 and not match.is_resident
    assert cache.evict_one(protect=match.entry)
    seq_id, n = cache.use(match)
    assert n == 0 and pool.length(seq_id) == 0 and pool.n_used == 0


@pytest.mark.parametrize(("first", "n_match"), [(0, 60), (50, 60), (51, 0), (100, 0)])
def test_prefix_is_cut_only_where_its_windows_still_reach(first: int, n_match: int) -> None:
    """Ten tokens are seen: of 60 tokens, those from 50 on must be there."""
    memory = FakeMemory()
    pool = CellPool(memory, memory, 256, 8, n_window=10)
    cache = PrefixCache(pool, max_host_bytes=1 << 20)
    seq_id = pool.allocate()
    pool.grow(seq_id, 110)
    memory.fill(seq_id, first, 110 - first)
    cache.keep(seq_id, (), np.arange(110, dtype=np.int32))
    prompt = np.concatenate([np.arange(60), np.arange(1000, 1020)]).astype(np.int32)
    match = cache.lookup((), prompt)
    assert (match.n, match.n_shared, match.goes_on) == (n_match, 60, True)
    assert cache.evict_one()
    assert cache.lookup((), prompt).entry is None
    assert cache.lookup((), np.arange(120, dtype=np.int32)).n == 110


def test_sequence_whose_windows_have_passed_its_head_is_not_kept() -> None:
    """As a conversation that slid leaves it: its head alone, without what layers with windows once saw of it."""
    memory = FakeMemory()
    pool = CellPool(memory, memory, 256, 8, n_window=10)
    cache = PrefixCache(pool, max_host_bytes=1 << 20)
    seq_id = pool.allocate()
    pool.grow(seq_id, 100)
    cache.keep(seq_id, (), np.arange(100, dtype=np.int32))
    assert len(cache) == 0 and pool.n_used == 0
