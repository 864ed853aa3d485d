"""Finished sequences kept for the next request that starts alike: in the cache for a moment, then in RAM.

Idle cells are not free: every decode attends over the used range. So what waits moves to RAM as soon as streams run and
more than a few cells are idle, and comes back bit for bit in a few milliseconds, where computing it takes seconds.

Cells hold what the model computed with its adapters, so each adapter set has prefixes of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.engine.adapters import AdapterSet
from localllm.engine.cells import CellPool
from localllm.engine.radix_tree import RadixTree, Tokens

MIN_KEPT = 16
"""Shorter prefixes are not worth an entry."""
MIN_RESTORE_GAIN = 64
"""A copy in RAM is used if it saves at least this many tokens more than what is in the cache."""


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
    """Which prefixes are kept, where, and which goes next. Least recently used goes first."""

    def __init__(self, pool: CellPool, max_host_bytes: int) -> None:
        self._pool = pool
        self._trees: dict[AdapterSet, RadixTree[_Entry]] = {}
        self._resident: dict[int, _Entry] = {}
        self._hosted: set[_Entry] = set()
        self._clock = itertools.count()
        self._max_host_bytes = max_host_bytes
        self.host_bytes = 0

    def __len__(self) -> int:
        return len(self._resident) + len(self._hosted)

    def lookup(self, adapters: AdapterSet, tokens: Tokens) -> Match:
        """Return the best kept prefix of this adapter set; RAM only where it saves clearly more than the cache does."""
        hosted = NO_MATCH
        for n, entries in self._matches(adapters, tokens):
            resident = next((e for e in entries if e.seq_id is not None), None)
            if resident is not None:
                return hosted if hosted.n - n >= MIN_RESTORE_GAIN else Match(n, resident)
            if hosted is NO_MATCH:
                hosted = Match(n, min(entries, key=lambda e: len(e.tokens)))
        return hosted if hosted.n >= MIN_KEPT else NO_MATCH

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
            self._forget_hosted(entry)
            return self._pool.allocate(), 0
        if n < len(entry.tokens):
            self._pool.shrink(seq_id, n)
        return seq_id, n

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
        entry.data = data
        self._hosted.add(entry)
        self.host_bytes += data.nbytes
        while self.host_bytes > self._max_host_bytes:
            self._forget_hosted(min(self._hosted, key=lambda e: e.last_used))

    def clear(self) -> None:
        """Forget every idle prefix, in the cache and in RAM."""
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
