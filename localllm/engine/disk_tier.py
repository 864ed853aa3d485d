"""Between the kept prefixes in memory and those on disk: what is worth reading, and writing on a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
from numpy.typing import NDArray

from localllm.engine.adapters import AdapterSet
from localllm.engine.kept import Entry
from localllm.engine.kv_store import AdapterKey, KVStore, StoredPrefix
from localllm.engine.radix_tree import Tokens

MIN_STORED = 256
"""Shorter prefixes are computed again sooner than anybody notices."""


class DiskTier:
    """A store as the engine's thread uses it. Close it to finish what is being written.

    Args:
        store: the files.
        adapter_names: what each adapter is, by its number.
        in_whole: entries serve only in whole, so that a longer one does not replace a shorter one.
    """

    def __init__(self, store: KVStore, adapter_names: Sequence[str], *, in_whole: bool) -> None:
        self._store = store
        self._adapter_names = tuple(adapter_names)
        self._in_whole = in_whole
        self._writer = ThreadPoolExecutor(1, "localllm-kv-store")
        self._writing: Future[bool] | None = None

    def find(self, adapters: AdapterSet, tokens: Tokens, *, in_whole: bool) -> tuple[int, StoredPrefix | None]:
        """Return how many of these tokens the best stored prefix begins with, and that prefix."""
        return self._store.find(self._key(adapters), tokens, in_whole=in_whole)

    def load(self, prefix: StoredPrefix) -> NDArray[np.uint8] | None:
        """Read the cells of a prefix: [n_bytes] uint8; None where they cannot be used."""
        return self._store.load(prefix)

    @property
    def is_writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def save(self, entry: Entry, data: NDArray[np.uint8]) -> None:
        """Begin to write a prefix, after the one that is being written."""
        if self.is_writing:
            assert self._writing is not None
            wait([self._writing])
        key = self._key(entry.adapters)
        self._writing = self._writer.submit(self._store.save, key, entry.tokens, data, in_whole=self._in_whole)

    def disown(self, entry: Entry) -> None:
        """Delete from disk what llama.cpp would not take."""
        n, prefix = self.find(entry.adapters, entry.tokens, in_whole=self._in_whole)
        if prefix is not None and n == len(prefix.tokens) == len(entry.tokens):
            self._store.drop(prefix, "llama.cpp does not take it")

    def clear(self) -> None:
        """Delete all prefixes of this model."""
        self._store.clear()

    def close(self) -> None:
        """Wait until what was begun is written."""
        self._writer.shutdown()

    def _key(self, adapters: AdapterSet) -> AdapterKey:
        return tuple((self._adapter_names[number], scale) for number, scale in adapters)
