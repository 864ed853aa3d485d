"""Finished sequences kept for the next request that starts alike: in the cache for a moment, then in RAM, then on disk.

Idle cells are not free: every decode attends over the used range. So what waits moves to RAM as soon as streams run and
more than a few cells are idle, and comes back bit for bit in a few milliseconds, where computing it takes seconds.

Cells hold what the model computed with its adapters, so each adapter set has prefixes of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.engine.adapters import AdapterSet
from localllm.engine.cells import CellPool
from localllm.engine.kv_store import AdapterKey, KVStore
from localllm.engine.radix_tree import RadixTree, Tokens

MIN_KEPT = 16
"""Shorter prefixes are not worth an entry."""
MIN_RESTORE_GAIN = 64
"""A copy in RAM is used if it saves at least this many tokens more than what is in the cache; so is one on disk."""
MIN_STORED = 256
"""Shorter prefixes are computed again sooner than anybody notices."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A kept prefix: in the cache under `seq_id`, or in RAM as `data`."""

    adapters: AdapterSet
    """That its cells were computed with."""
    tokens: Tokens
    seq_id: int | None
    data: NDArray[np.uint8] | None
    last_used: int
    is_live: bool
    is_stored: bool = False
    """Whether it is on disk too, or need not be."""


@dataclass(frozen=True, slots=True)
class Match:
    """The longest kept prefix of a prompt."""

    n: int
    entry: _Entry | None

    @property
    def is_resident(self) -> bool:
        return self.entry is not None and self.entry.seq_id is not None


NO_MATCH = Match(0, None)


class PrefixCache:
    """Which prefixes are kept, where, and which goes next. Least recently used goes first.

    Args:
        pool: of the context's cells.
        max_host_bytes: RAM for those that left it.
        store: for those that shall outlive the process; None keeps none.
        adapter_names: what each adapter is, by its number.
    """

    def __init__(
        self,
        pool: CellPool,
        max_host_bytes: int,
        store: KVStore | None = None,
        adapter_names: Sequence[str] = (),
    ) -> None:
        self._pool = pool
        self._store = store
        self._adapter_names = tuple(adapter_names)
        self._writer = ThreadPoolExecutor(1, "localllm-kv-store") if store is not None else None
        self._writing: Future[bool] | None = None
        self._trees: dict[AdapterSet, RadixTree[_Entry]] = {}
        self._resident: dict[int, _Entry] = {}
        self._hosted: set[_Entry] = set()
        self._clock = itertools.count()
        self._max_host_bytes = max_host_bytes
        self.host_bytes = 0
        self.n_tokens_from_disk = 0

    def __len__(self) -> int:
        return len(self._resident) + len(self._hosted)

    def lookup(self, adapters: AdapterSet, tokens: Tokens) -> Match:
        """Return the best kept prefix of this adapter set; RAM only where it saves clearly more than the cache does.

        A prefix on disk that saves clearly more than both is read into RAM.
        """
        kept = self._lookup_kept(adapters, tokens)
        return kept if self._store is None else self._fetch(self._store, kept, adapters, tokens)

    def _lookup_kept(self, adapters: AdapterSet, tokens: Tokens) -> Match:
        hosted = NO_MATCH
        for n, entries in self._matches(adapters, tokens):
            resident = next((e for e in entries if e.seq_id is not None), None)
            if resident is not None:
                return hosted if hosted.n - n >= MIN_RESTORE_GAIN else Match(n, resident)
            if hosted is NO_MATCH:
                hosted = Match(n, min(entries, key=lambda e: len(e.tokens)))
        return hosted if hosted.n >= MIN_KEPT else NO_MATCH

    def _fetch(self, store: KVStore, kept: Match, adapters: AdapterSet, tokens: Tokens) -> Match:
        n, prefix = store.find(self._key(adapters), tokens)
        if prefix is None or n - kept.n < MIN_RESTORE_GAIN:
            return kept
        if len(prefix.tokens) > self._pool.n_cells or prefix.n_bytes > self._max_host_bytes:
            return kept
        data = store.load(prefix)
        if data is None:
            return kept
        entry = _Entry(adapters, prefix.tokens, None, data, next(self._clock), is_live=False, is_stored=True)
        self._trees.setdefault(adapters, RadixTree()).insert(entry.tokens, entry)
        self._host(entry, data)
        self.n_tokens_from_disk += n
        return Match(n, entry)

    def use(self, match: Match) -> tuple[int, int]:
        """Start a live sequence from a match; return (seq_id, number of cells it begins with)."""
        entry = match.entry
        if entry is None:
            return self._pool.allocate(), 0
        entry.last_used = next(self._clock)
        if entry.seq_id is not None:
            seq_id = self._pool.allocate()
            self._pool.share(entry.seq_id, seq_id, match.n)
            return seq_id, match.n
        return self._restore(entry, match.n)

    def _restore(self, entry: _Entry, n: int) -> tuple[int, int]:
        # Making room for it may have pushed it out of RAM itself.
        if entry.data is None or len(entry.tokens) > self._pool.n_free:
            return self._pool.allocate(), 0
        seq_id = self._pool.restore(entry.data, len(entry.tokens))
        if seq_id is None:
            self._disown(entry)
            self._forget_hosted(entry)
            return self._pool.allocate(), 0
        if n < len(entry.tokens):
            self._pool.shrink(seq_id, n)
        return seq_id, n

    def _disown(self, entry: _Entry) -> None:
        """Delete from disk what llama.cpp would not take."""
        if self._store is not None:
            n, prefix = self._store.find(self._key(entry.adapters), entry.tokens)
            if prefix is not None and n == len(prefix.tokens) == len(entry.tokens):
                self._store.drop(prefix, "llama.cpp does not take it")

    def offer_live(self, seq_id: int, adapters: AdapterSet, tokens: Tokens) -> None:
        """Let others share a running sequence's prompt, now that all of it is in the cache."""
        if len(tokens) >= MIN_KEPT:
            self._add(_Entry(adapters, tokens, seq_id, None, next(self._clock), is_live=True))

    def keep(self, seq_id: int, adapters: AdapterSet, tokens: Tokens) -> None:
        """Take over a finished sequence whose cells hold exactly `tokens`."""
        self.withdraw(seq_id)
        if len(tokens) < MIN_KEPT:
            self._pool.release(seq_id)
            return
        self._forget_prefixes_of(adapters, tokens)
        self._pool.park(seq_id)
        self._add(_Entry(adapters, tokens, seq_id, None, next(self._clock), is_live=False))

    def withdraw(self, seq_id: int) -> None:
        """Stop offering a running sequence; its cells are untouched."""
        entry = self._resident.pop(seq_id, None)
        if entry is not None:
            self._uproot(entry)

    def evict_one(self, *, protect: _Entry | None = None) -> bool:
        """Move the least recently used idle prefix out of the cache; False if there is none."""
        idle = [e for e in self._resident.values() if not e.is_live and e is not protect]
        if not idle:
            return False
        entry = min(idle, key=lambda e: e.last_used)
        assert entry.seq_id is not None
        self._spill(entry, entry.seq_id)
        return True

    def _spill(self, entry: _Entry, seq_id: int) -> None:
        data = self._pool.save(seq_id) if self._max_host_bytes else None
        self._pool.release(seq_id)
        del self._resident[seq_id]
        entry.seq_id = None
        if data is None or data.nbytes > self._max_host_bytes:
            self._uproot(entry)
            return
        self._host(entry, data)

    def _host(self, entry: _Entry, data: NDArray[np.uint8]) -> None:
        entry.data = data
        self._hosted.add(entry)
        self.host_bytes += data.nbytes
        while self.host_bytes > self._max_host_bytes:
            self._forget_hosted(min(self._hosted, key=lambda e: e.last_used))

    @property
    def _unsaved(self) -> list[_Entry]:
        if self._store is None:
            return []
        return [e for e in (*self._resident.values(), *self._hosted) if not e.is_live and not e.is_stored]

    @property
    def has_unsaved(self) -> bool:
        """Whether `save_one` has something to do, now or when the last is written."""
        return bool(self._unsaved)

    def save_one(self) -> None:
        """Begin to write the prefix that was used last, of those not on disk yet, unless another is being written."""
        if self._writing is None or self._writing.done():
            self._save(max(self._unsaved, key=lambda e: e.last_used))

    def close(self) -> None:
        """Write what is not on disk yet."""
        for entry in sorted(self._unsaved, key=lambda e: e.last_used):
            self._save(entry)
        if self._writer is not None:
            self._writer.shutdown()

    def _save(self, entry: _Entry) -> None:
        assert self._store is not None and self._writer is not None
        entry.is_stored = True
        if len(entry.tokens) < MIN_STORED:
            return
        if self._writing is not None:
            wait([self._writing])
        data = self._pool.save(entry.seq_id) if entry.seq_id is not None else entry.data
        assert data is not None
        self._writing = self._writer.submit(self._store.save, self._key(entry.adapters), entry.tokens, data)

    def _key(self, adapters: AdapterSet) -> AdapterKey:
        return tuple((self._adapter_names[number], scale) for number, scale in adapters)

    def clear(self) -> None:
        """Forget every idle prefix, in the cache, in RAM and on disk."""
        if self._store is not None:
            self._store.clear()
        for entry in [e for e in self._resident.values() if not e.is_live]:
            self._forget_resident(entry)
        for entry in list(self._hosted):
            self._forget_hosted(entry)

    def _add(self, entry: _Entry) -> None:
        assert entry.seq_id is not None
        self._resident[entry.seq_id] = entry
        self._trees.setdefault(entry.adapters, RadixTree()).insert(entry.tokens, entry)

    def _uproot(self, entry: _Entry) -> None:
        tree = self._trees[entry.adapters]
        tree.remove(entry.tokens, entry)
        if tree.is_empty:
            del self._trees[entry.adapters]

    def _matches(self, adapters: AdapterSet, tokens: Tokens) -> Iterator[tuple[int, set[_Entry]]]:
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

    def _forget_resident(self, entry: _Entry) -> None:
        assert entry.seq_id is not None
        self._uproot(entry)
        del self._resident[entry.seq_id]
        self._pool.release(entry.seq_id)

    def _forget_hosted(self, entry: _Entry) -> None:
        assert entry.data is not None
        self._uproot(entry)
        self._hosted.discard(entry)
        self.host_bytes -= entry.data.nbytes
        entry.data = None
