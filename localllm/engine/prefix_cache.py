"""Finished sequences kept for the next request that starts alike: in the cache for a moment, then in RAM, then on disk.

Idle cells are not free: every decode attends over the used range. So what waits moves to RAM as soon as streams run and
more than a few cells are idle, and comes back bit for bit in a few milliseconds, where computing it takes seconds.

Cells hold what the model computed with its adapters, so each adapter set has prefixes of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from localllm.engine import disk_tier
from localllm.engine.adapters import AdapterSet
from localllm.engine.cells import CellPool
from localllm.engine.disk_tier import DiskTier
from localllm.engine.kept import MIN_KEPT, MIN_RESTORE_GAIN, Entry, Match
from localllm.engine.kv_store import KVStore
from localllm.engine.radix_tree import RadixTree, Tokens, superseded


class PrefixCache:
    """Which prefixes are kept, where, and which goes next. Least recently used goes first.

    Where a memory cannot be cut (recurrent and hybrid models), prefixes are checkpoints: copies of a sequence's
    state, in RAM and on disk, that serve only in whole. Where layers have sliding windows, a copy does too: it lacks
    what the tokens after a cut would see.

    Args:
        pool: of the context's cells.
        max_host_bytes: RAM for those that left it.
        store: for those that shall outlive the process; None keeps none.
        adapter_names: what each adapter is, by its number.
        in_whole: the memory cannot be cut.
    """

    def __init__(
        self,
        pool: CellPool,
        max_host_bytes: int,
        store: KVStore | None = None,
        adapter_names: Sequence[str] = (),
        *,
        in_whole: bool = False,
    ) -> None:
        self._pool = pool
        self._in_whole = in_whole or pool.n_window > 0
        self._disk = None if store is None else DiskTier(store, adapter_names, in_whole=self._in_whole)
        self._trees: dict[AdapterSet, RadixTree[Entry]] = {}
        self._resident: dict[int, Entry] = {}
        self._hosted: set[Entry] = set()
        self._clock = itertools.count()
        self._max_host_bytes = max_host_bytes
        self.host_bytes = 0

    def __len__(self) -> int:
        return len(self._resident) + len(self._hosted)

    def lookup(self, adapters: AdapterSet, tokens: Tokens) -> Match:
        """Return the best kept prefix of this adapter set; RAM only where it saves clearly more than the cache does.

        A prefix on disk that saves clearly more than both is read into RAM.
        """
        n, entry = self._lookup_kept(adapters, tokens)
        n_shared, goes_on = self._nearest(adapters, tokens)
        if self._disk is not None:
            n, entry = self._fetch(self._disk, n, entry, adapters, tokens)
        return Match(n, entry, n_shared, goes_on)

    def _lookup_kept(self, adapters: AdapterSet, tokens: Tokens) -> tuple[int, Entry | None]:
        n_hosted, hosted = 0, None
        for n, entries in self._matches(adapters, tokens):
            resident = next((e for e in entries if e.seq_id is not None and self._pool.can_cut(e.seq_id, n)), None)
            if resident is not None:
                return (n_hosted, hosted) if n_hosted - n >= MIN_RESTORE_GAIN else (n, resident)
            if hosted is None:
                in_ram = (e for e in entries if e.seq_id is None and (len(e.tokens) == n or not self._in_whole))
                hosted = min(in_ram, key=lambda e: len(e.tokens), default=None)
                n_hosted = n if hosted is not None else 0
        return (n_hosted, hosted) if n_hosted >= MIN_KEPT else (0, None)

    def _nearest(self, adapters: AdapterSet, tokens: Tokens) -> tuple[int, bool]:
        """Return how many tokens the nearest prefix shares, whether it can be used or not, and whether it goes on."""
        n, entries = next(self._matches(adapters, tokens), (0, set()))
        goes_on = all(len(e.tokens) > n for e in entries) and n > 0
        if self._disk is not None:
            n_stored, stored = self._disk.find(adapters, tokens, in_whole=False)
            if stored is not None and n_stored > n:
                return n_stored, len(stored.tokens) > n_stored
        return n, goes_on

    def _fetch(
        self, disk: DiskTier, n_kept: int, kept: Entry | None, adapters: AdapterSet, tokens: Tokens
    ) -> tuple[int, Entry | None]:
        n, prefix = disk.find(adapters, tokens, in_whole=self._in_whole)
        if prefix is None or n - n_kept < MIN_RESTORE_GAIN:
            return n_kept, kept
        if len(prefix.tokens) > self._pool.n_cells or prefix.n_bytes > self._max_host_bytes:
            return n_kept, kept
        data = disk.load(prefix)
        if data is None:
            return n_kept, kept
        entry = Entry(adapters, prefix.tokens, None, data, next(self._clock), is_stored=True, is_fresh_from_disk=True)
        self._plant(entry)
        self._host(entry, data)
        return n, entry

    def use(self, match: Match) -> tuple[int, int]:
        """Start a live sequence from a match; return (seq_id, number of cells it begins with)."""
        entry = match.entry
        if entry is None:
            return self._pool.allocate(), 0
        entry.last_used, entry.is_fresh_from_disk = next(self._clock), False
        if entry.seq_id is not None:
            seq_id = self._pool.allocate()
            self._pool.share(entry.seq_id, seq_id, match.n)
            return seq_id, match.n
        return self._restore(entry, match.n)

    def _restore(self, entry: Entry, n: int) -> tuple[int, int]:
        # Making room for it may have pushed it out of RAM itself.
        if entry.data is None or len(entry.tokens) > self._pool.n_free:
            return self._pool.allocate(), 0
        seq_id = self._pool.restore(entry.data, len(entry.tokens))
        if seq_id is None:
            if self._disk is not None:
                self._disk.disown(entry)
            self._forget_hosted(entry)
            return self._pool.allocate(), 0
        if n < len(entry.tokens):
            self._pool.shrink(seq_id, n)
        return seq_id, n

    def offer_live(self, seq_id: int, adapters: AdapterSet, tokens: Tokens) -> None:
        """Let others share a running sequence's prompt, now that all of it is in the cache."""
        if len(tokens) >= MIN_KEPT:
            self._add(Entry(adapters, tokens, seq_id, None, next(self._clock), is_live=True))

    def keep(self, seq_id: int, adapters: AdapterSet, tokens: Tokens) -> None:
        """Take over a finished sequence whose cells hold exactly `tokens`."""
        self.withdraw(seq_id)
        if len(tokens) < MIN_KEPT or not self._pool.can_cut(seq_id, len(tokens)):
            self._pool.release(seq_id)
            return
        self._forget_prefixes_of(adapters, tokens)
        self._pool.park(seq_id)
        self._add(Entry(adapters, tokens, seq_id, None, next(self._clock)))

    def keep_copy(self, seq_id: int, adapters: AdapterSet, tokens: Tokens) -> None:
        """Keep a checkpoint: a copy of the state of a sequence that has read exactly `tokens`."""
        if len(tokens) < MIN_KEPT or not self._max_host_bytes:
            return
        chain = [(n, set(entries)) for n, entries in self._matches(adapters, tokens)]
        same = next((e for n, es in chain for e in es if n == len(e.tokens) == len(tokens)), None)
        if same is not None:
            same.last_used = next(self._clock)
            return
        data = self._pool.save(seq_id)
        if data.nbytes > self._max_host_bytes:
            return
        for entry in superseded(chain):
            self._forget_hosted(entry)
        entry = Entry(adapters, tokens, None, data, next(self._clock))
        self._plant(entry)
        self._host(entry, data)

    def withdraw(self, seq_id: int) -> None:
        """Stop offering a running sequence; its cells are untouched."""
        entry = self._resident.pop(seq_id, None)
        if entry is not None:
            self._uproot(entry)

    def evict_one(self, *, protect: Entry | None = None) -> bool:
        """Move the least recently used idle prefix out of the cache; False if there is none."""
        idle = [e for e in self._resident.values() if not e.is_live and e is not protect]
        if not idle:
            return False
        entry = min(idle, key=lambda e: e.last_used)
        assert entry.seq_id is not None
        self._spill(entry, entry.seq_id)
        return True

    def _spill(self, entry: Entry, seq_id: int) -> None:
        data = self._pool.save(seq_id) if self._max_host_bytes else None
        self._pool.release(seq_id)
        del self._resident[seq_id]
        entry.seq_id = None
        if data is None or data.nbytes > self._max_host_bytes:
            self._uproot(entry)
            return
        self._host(entry, data)

    def _host(self, entry: Entry, data: NDArray[np.uint8]) -> None:
        entry.data = data
        self._hosted.add(entry)
        self.host_bytes += data.nbytes
        while self.host_bytes > self._max_host_bytes:
            self._forget_hosted(min(self._hosted, key=lambda e: e.last_used))

    @property
    def _unsaved(self) -> list[Entry]:
        if self._disk is None:
            return []
        return [e for e in (*self._resident.values(), *self._hosted) if not e.is_live and not e.is_stored]

    @property
    def has_unsaved(self) -> bool:
        """Whether `save_one` has something to do, now or when the last is written."""
        return bool(self._unsaved)

    def save_one(self) -> None:
        """Begin to write the prefix that was used last, of those not on disk yet, unless another is being written."""
        if self._disk is not None and not self._disk.is_writing:
            self._save(self._disk, max(self._unsaved, key=lambda e: e.last_used))

    def close(self) -> None:
        """Write what is not on disk yet."""
        if self._disk is not None:
            for entry in sorted(self._unsaved, key=lambda e: e.last_used):
                self._save(self._disk, entry)
            self._disk.close()

    def _save(self, disk: DiskTier, entry: Entry) -> None:
        entry.is_stored = True
        if len(entry.tokens) < disk_tier.MIN_STORED:
            return
        data = self._pool.save(entry.seq_id) if entry.seq_id is not None else entry.data
        assert data is not None
        disk.save(entry, data)

    def clear(self) -> None:
        """Forget every idle prefix, in the cache, in RAM and on disk."""
        if self._disk is not None:
            self._disk.clear()
        for entry in [e for e in self._resident.values() if not e.is_live]:
            self._forget_resident(entry)
        for entry in list(self._hosted):
            self._forget_hosted(entry)

    def _add(self, entry: Entry) -> None:
        assert entry.seq_id is not None
        self._resident[entry.seq_id] = entry
        self._plant(entry)

    def _plant(self, entry: Entry) -> None:
        self._trees.setdefault(entry.adapters, RadixTree()).insert(entry.tokens, entry)

    def _uproot(self, entry: Entry) -> None:
        tree = self._trees[entry.adapters]
        tree.remove(entry.tokens, entry)
        if tree.is_empty:
            del self._trees[entry.adapters]

    def _matches(self, adapters: AdapterSet, tokens: Tokens) -> Iterator[tuple[int, set[Entry]]]:
        tree = self._trees.get(adapters)
        return iter(()) if tree is None else tree.matches(tokens)

    def _forget_prefixes_of(self, adapters: AdapterSet, tokens: Tokens) -> None:
        """Drop entries that a longer one now covers."""
        covered = {
            entry
            for n, entries in self._matches(adapters, tokens)
            for entry in entries
            if len(entry.tokens) == n and not entry.is_live
        }
        for entry in covered:
            if entry.seq_id is not None:
                self._forget_resident(entry)
            else:
                self._forget_hosted(entry)

    def _forget_resident(self, entry: Entry) -> None:
        assert entry.seq_id is not None
        self._uproot(entry)
        del self._resident[entry.seq_id]
        self._pool.release(entry.seq_id)

    def _forget_hosted(self, entry: Entry) -> None:
        assert entry.data is not None
        self._uproot(entry)
        self._hosted.discard(entry)
        self.host_bytes -= entry.data.nbytes
        entry.data = None
