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
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from localllm.engine.radix_tree import RadixTree, Tokens, superseded
from localllm.partial_files import PARTIAL, claim, remove_abandoned, sync_folder, unlink

log = logging.getLogger("localllm.engine")

_MAGIC = b"LLMKV001"
_SUFFIX = ".kv"
_ABANDONED = f"*/*{PARTIAL}"
_LENGTHS = struct.Struct("<8sII")
"""Magic, bytes of the head, CRC-32 of the head and the tokens."""
_MAX_HEAD_BYTES = 1 << 16
_MAX_TOKENS = 1 << 24
_CLOCK_SLACK_S = 60.0

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
        remove_abandoned(folder, _ABANDONED)
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._take_in(path)

    def __len__(self) -> int:
        return len(self._prefixes)

    def find(self, adapters: AdapterKey, tokens: Tokens, *, in_whole: bool = False) -> tuple[int, StoredPrefix | None]:
        """Return how many of these tokens the best stored prefix begins with, and that prefix.

        Args:
            adapters: that its cells were computed with.
            tokens: of a prompt.
            in_whole: it must not go on with other tokens.
        """
        with self._lock:
            tree = self._trees.get(adapters)
            for n, prefixes in () if tree is None else tree.matches(tokens):
                shortest = min(prefixes, key=lambda prefix: len(prefix.tokens))
                if not in_whole or len(shortest.tokens) == n:
                    return n, shortest
        return 0, None

    def load(self, prefix: StoredPrefix) -> NDArray[np.uint8] | None:
        """Read the cells of a prefix: [n_bytes] uint8; None where they cannot be used.

        A file that is not what it should be is deleted; one that another process deleted is forgotten.
        """
        try:
            data = self._read(prefix)
        except ValueError as error:
            self.drop(prefix, str(error))
            return None
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("the saved prompt state %s is not used: %s", prefix.path.name, error.strerror or error)
            self._forget(prefix)
            return None
        _touch(prefix.path)
        return data

    def _read(self, prefix: StoredPrefix) -> NDArray[np.uint8]:
        with prefix.path.open("rb") as file:
            head, tokens = _read_head(file)
            if (head.identity, head.adapters) != (self._identity, prefix.adapters):
                raise ValueError("it belongs to another model")
            if not np.array_equal(tokens, prefix.tokens):
                raise ValueError("it belongs to another prompt")
            data = np.fromfile(file, dtype=np.uint8, count=prefix.n_bytes + 1)
        if data.size != head.n_bytes or zlib.crc32(data.data) != head.crc32:
            raise ValueError("its checksum is wrong")
        return data

    def save(self, adapters: AdapterKey, tokens: Tokens, data: NDArray[np.uint8], *, in_whole: bool = False) -> bool:
        """Write the cells of a prefix, unless they would take all there is; what they make superfluous goes.

        Args:
            adapters: that they were computed with.
            tokens: that they hold.
            data: [n_bytes] uint8.
            in_whole: they serve only in whole, so a longer prefix does not stand for a shorter one.

        Returns:
            Whether it is on disk now. That a disk is full is a notice in the log, not an error.
        """
        if len(tokens) == self.find(adapters, tokens, in_whole=in_whole)[0]:
            return True
        head = _Head(self._identity, adapters, len(tokens), data.nbytes, zlib.crc32(data.data))
        name = blake2b(tokens.tobytes() + repr(adapters).encode(), digest_size=16).hexdigest()
        path = self._folder / f"{name}{_SUFFIX}"
        beginning = _pack_head(head, tokens)
        n_bytes = len(beginning) + data.nbytes
        if n_bytes > self._max_bytes:
            return False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(n_bytes)
            self._write(path, beginning, data)
        except OSError as error:
            log.warning("a prompt's state was not saved to %s: %s", self._folder, error.strerror or error)
            return False
        with self._lock:
            for prefix in self._superfluous(adapters, tokens, in_whole=in_whole):
                self._delete(prefix)
            self._add(StoredPrefix(path, adapters, tokens, data.nbytes))
        return True

    def drop(self, prefix: StoredPrefix, why: str) -> None:
        """Delete a prefix that cannot be used."""
        self._forget(prefix)
        _reject(prefix.path, why)

    def clear(self) -> None:
        """Delete all prefixes of this model."""
        with self._lock:
            for prefix in list(self._prefixes):
                self._delete(prefix)

    def _write(self, path: Path, beginning: bytes, data: NDArray[np.uint8]) -> None:
        partial = path.with_name(f"{os.getpid()}-{next(self._names)}{PARTIAL}")
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                claim(file)
                file.write(beginning)
                file.write(data.data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(self._folder)
        finally:
            unlink(partial)

    def _make_room(self, n_bytes: int) -> None:
        """Delete the files of any model that were used longest ago, and what a crash left."""
        remove_abandoned(self._root, _ABANDONED)
        found = list(_by_age(self._root))
        excess = sum(size for _, size in found) + n_bytes - self._max_bytes
        with self._lock:
            mine = {prefix.path: prefix for prefix in self._prefixes}
            for path, size in found:
                if excess <= 0:
                    return
                if path in mine:
                    self._forget(mine[path])
                excess -= size if unlink(path) else 0

    def _take_in(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                head, tokens = _read_head(file)
            if head.identity != self._identity:
                raise ValueError("it belongs to another model")
        except ValueError as error:
            _reject(path, str(error))
        except OSError as error:
            log.warning("the saved prompt state %s is not used: %s", path.name, error.strerror or error)
        else:
            self._add(StoredPrefix(path, head.adapters, tokens, head.n_bytes))

    def _add(self, prefix: StoredPrefix) -> None:
        self._prefixes.add(prefix)
        self._trees.setdefault(prefix.adapters, RadixTree()).insert(prefix.tokens, prefix)

    def _forget(self, prefix: StoredPrefix) -> None:
        with self._lock:
            if prefix in self._prefixes:
                self._prefixes.discard(prefix)
                self._trees[prefix.adapters].remove(prefix.tokens, prefix)

    def _delete(self, prefix: StoredPrefix) -> None:
        self._forget(prefix)
        unlink(prefix.path)

    def _superfluous(self, adapters: AdapterKey, tokens: Tokens, *, in_whole: bool) -> Iterable[StoredPrefix]:
        tree = self._trees.get(adapters)
        chain = [] if tree is None else [(n, set(prefixes)) for n, prefixes in tree.matches(tokens)]
        if in_whole:
            return superseded(chain)
        return {p for n, prefixes in chain for p in prefixes if len(p.tokens) == n}


def _reject(path: Path, why: str) -> None:
    """Delete a file that must not be used, and say so."""
    outcome = "was deleted" if unlink(path) else "cannot be deleted"
    log.warning("the saved prompt state %s is not used and %s: %s", path.name, outcome, why)


def _by_age(root: Path) -> list[tuple[Path, int]]:
    """Return all models' files, each with its bytes: those used longest ago first.

    A time in the future tells nothing, since some clock was wrong; such files go first.
    """
    found = []
    now = time.time()
    for path in root.glob(f"*/*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            used = status.st_mtime if status.st_mtime <= now + _CLOCK_SLACK_S else 0.0
            found.append((used, path, status.st_size))
    return [(path, size) for _, path, size in sorted(found)]


def _pack_head(head: _Head, tokens: Tokens) -> bytes:
    encoded, raw = msgspec.json.encode(head), tokens.tobytes()
    return _LENGTHS.pack(_MAGIC, len(encoded), zlib.crc32(raw, zlib.crc32(encoded))) + encoded + raw


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
