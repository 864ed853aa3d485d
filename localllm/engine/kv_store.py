"""Kept prefixes on disk: what outlives an eviction, an unload, a restart and a crash.

One file a prefix, written under another name and renamed when it is whole. A file says what it belongs to, which is
everything that its cells depend on; it is used only where all of that is the same, and its checksums are right.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import struct
import threading
import time
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from localllm.engine.radix_tree import RadixTree, Tokens

log = logging.getLogger("localllm.engine")

_MAGIC = b"LLMKV001"
_SUFFIX = ".kv"
_PARTIAL = ".partial"
_LENGTHS = struct.Struct("<8sII")
"""Magic, bytes of the head, CRC-32 of the head and the tokens."""
_MAX_HEAD_BYTES = 1 << 16
_MAX_TOKENS = 1 << 24
_STALE_PARTIAL_S = 600.0

AdapterKey = tuple[tuple[str, float], ...]
"""What each adapter is, whatever number it was loaded under, and its scale."""


class _Head(msgspec.Struct, frozen=True):
    """The beginning of a file."""

    identity: str
    adapters: AdapterKey
    n_tokens: int
    n_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredPrefix:
    """A prefix that lies on disk."""

    path: Path
    adapters: AdapterKey
    tokens: Tokens
    n_bytes: int
    """Of its cells."""


class KVStore:
    """The prefixes of one model, loaded in one way.

    For any thread; one writes at a time. Several processes may share the folder.

    Args:
        folder: of all models' prefixes; made when something is written.
        identity: of everything that cells depend on: the model, KV types, layout, RoPE settings, llama.cpp's build.
        max_bytes: of all files in the folder together; those used longest ago go first.
    """

    def __init__(self, folder: Path, identity: str, max_bytes: int) -> None:
        self._root = folder
        self._identity = identity
        self._folder = folder / blake2b(identity.encode(), digest_size=12).hexdigest()
        self._max_bytes = max_bytes
        self._names = itertools.count()
        self._trees: dict[AdapterKey, RadixTree[StoredPrefix]] = {}
        self._prefixes: set[StoredPrefix] = set()
        self._lock = threading.RLock()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._take_in(path)

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, adapters: AdapterKey, tokens: Tokens) -> tuple[int, StoredPrefix | None]:
        """Return how many of these tokens the best stored prefix begins with, and that prefix."""
        with self._lock:
            tree = self._trees.get(adapters)
            for n, prefixes in () if tree is None else tree.matches(tokens):
                return n, min(prefixes, key=lambda prefix: len(prefix.tokens))
        return 0, None

    def load(self, prefix: StoredPrefix) -> NDArray[np.uint8] | None:
        """Read the cells of a prefix: [n_bytes] uint8; None, and the file is gone, where they are not whole."""
        try:
            with prefix.path.open("rb") as file:
                head, _ = _read_head(file)
                data = np.fromfile(file, dtype=np.uint8)
            if data.size != head.n_bytes or zlib.crc32(data.data) != head.crc32:
                raise ValueError("its checksum is wrong")
        except (OSError, ValueError) as error:
            self.drop(prefix, str(error))
            return None
        _touch(prefix.path)
        return data

    def save(self, adapters: AdapterKey, tokens: Tokens, data: NDArray[np.uint8]) -> bool:
        """Write the cells of a prefix, unless they would take all there is; shorter ones that it covers go.

        Returns:
            Whether it is on disk now. That a disk is full is a notice in the log, not an error.
        """
        if data.nbytes > self._max_bytes:
            return False
        if len(tokens) == self.find(adapters, tokens)[0]:
            return True
        head = _Head(self._identity, adapters, len(tokens), data.nbytes, zlib.crc32(data.data))
        name = blake2b(tokens.tobytes() + repr(adapters).encode(), digest_size=16).hexdigest()
        path = self._folder / f"{name}{_SUFFIX}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(data.nbytes)
            self._write(path, head, tokens, data)
        except OSError as error:
            log.warning("a prompt's state was not saved to %s: %s", self._folder, error.strerror or error)
            return False
        with self._lock:
            self._forget_covered(adapters, tokens)
            self._add(StoredPrefix(path, adapters, tokens, data.nbytes))
        return True

    def drop(self, prefix: StoredPrefix, why: str) -> None:
        """Delete a prefix that cannot be used."""
        log.warning("the saved prompt state %s is not used and was deleted: %s", prefix.path.name, why)
        self._forget(prefix)

    def clear(self) -> None:
        """Delete all prefixes of this model."""
        with self._lock:
            for prefix in list(self._prefixes):
                self._forget(prefix)

    def _write(self, path: Path, head: _Head, tokens: Tokens, data: NDArray[np.uint8]) -> None:
        encoded = msgspec.json.encode(head)
        raw = tokens.tobytes()
        partial = path.with_name(f"{os.getpid()}-{next(self._names)}{_PARTIAL}")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(_LENGTHS.pack(_MAGIC, len(encoded), zlib.crc32(raw, zlib.crc32(encoded))))
                file.write(encoded)
                file.write(raw)
                file.write(data.data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, n_bytes: int) -> None:
        """Delete the files of any model that were used longest ago, and what a crash left."""
        found = []
        for path in self._root.glob("*/*"):
            try:
                status = path.stat()
            except OSError:
                continue
            if path.suffix == _SUFFIX:
                found.append((status.st_mtime, status.st_size, path))
            elif path.suffix == _PARTIAL and time.time() - status.st_mtime > _STALE_PARTIAL_S:
                path.unlink(missing_ok=True)
        excess = sum(size for _, size, _ in found) + n_bytes - self._max_bytes
        with self._lock:
            mine = {prefix.path: prefix for prefix in self._prefixes}
            for _, size, path in sorted(found):
                if excess <= 0:
                    return
                if path in mine:
                    self._forget(mine[path])
                path.unlink(missing_ok=True)
                excess -= size

    def _take_in(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                head, tokens = _read_head(file)
            if head.identity != self._identity:
                raise ValueError("it belongs to another model")
        except (OSError, ValueError) as error:
            log.warning("the saved prompt state %s is not used and was deleted: %s", path.name, error)
            path.unlink(missing_ok=True)
            return
        self._add(StoredPrefix(path, head.adapters, tokens, head.n_bytes))

    def _add(self, prefix: StoredPrefix) -> None:
        self._prefixes.add(prefix)
        self._trees.setdefault(prefix.adapters, RadixTree()).insert(prefix.tokens, prefix)

    def _forget(self, prefix: StoredPrefix) -> None:
        with self._lock:
            if prefix in self._prefixes:
                self._prefixes.discard(prefix)
                self._trees[prefix.adapters].remove(prefix.tokens, prefix)
        prefix.path.unlink(missing_ok=True)

    def _forget_covered(self, adapters: AdapterKey, tokens: Tokens) -> None:
        tree = self._trees.get(adapters)
        matches = [] if tree is None else list(tree.matches(tokens))
        for prefix in {p for n, prefixes in matches for p in prefixes if len(p.tokens) == n}:
            self._forget(prefix)


def _read_head(file: BinaryIO) -> tuple[_Head, Tokens]:
    """Read a file up to its cells.

    Raises:
        ValueError: it is no such file, or damaged.
    """
    lengths = file.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise ValueError("it is too short")
    magic, n_head, crc32 = _LENGTHS.unpack(lengths)
    if magic != _MAGIC or n_head > _MAX_HEAD_BYTES:
        raise ValueError("it is of another kind or version")
    encoded = file.read(n_head)
    try:
        head = msgspec.json.decode(encoded, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError("its beginning is damaged") from error
    raw = file.read(min(head.n_tokens, _MAX_TOKENS) * 4)
    if len(raw) != head.n_tokens * 4 or zlib.crc32(raw, zlib.crc32(encoded)) != crc32:
        raise ValueError("its beginning is damaged")
    return head, np.frombuffer(raw, dtype=np.int32)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)
