"""What is kept, and what happens when room is made for what is kept."""

from __future__ import annotations

import numpy as np

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
