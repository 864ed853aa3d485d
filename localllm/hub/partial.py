"""A file that is being fetched: it only grows, so what is there is always the beginning of the whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from localllm.gguf.new_file import cannot_write

_READ_BYTES = 1 << 20


class Sum(Protocol):
    """A digest that is being computed, as of hashlib."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


def sum_like(digest: str, n_bytes: int) -> Callable[[], Sum]:
    """Return what makes sums of the kind that `digest` is: SHA-256, or git's SHA-1 of a blob with its length."""
    if len(digest) == 64:
        return hashlib.sha256
    return lambda: hashlib.sha1(b"blob %d\0" % n_bytes, usedforsecurity=False)


def file_sum(
    path: Path,
    new_sum: Callable[[], Sum],
    stopped: Callable[[], bool] = lambda: False,
    on_bytes: Callable[[int], None] = lambda n_bytes: None,
) -> str:
    """Return the digest of a file's bytes; of fewer, if it is stopped. `on_bytes` hears how many more are read.

    Raises:
        OSError: it cannot be read.
    """
    total = new_sum()
    with path.open("rb") as file:
        while not stopped() and (data := file.read(_READ_BYTES)):
            total.update(data)
            on_bytes(len(data))
    return total.hexdigest()


class Partial:
    """The beginning of a file, on disk, with the digest of what is there.

    Opening it reads what an earlier run left, whatever ended that.

    Args:
        path: where it is; made if it is not there.
        new_sum: makes the digest.

    Raises:
        RequestError: it cannot be opened or read.
    """

    def __init__(self, path: Path, new_sum: Callable[[], Sum]) -> None:
        self.path = path
        self._new_sum = new_sum
        self._sum = new_sum()
        self.n_bytes = 0
        try:
            # Unbuffered: what is counted is what the file has, also after a full disk.
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b", 0)
            while data := self._file.read(_READ_BYTES):
                self._count(data)
        except OSError as error:
            raise cannot_write(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, data: bytes) -> None:
        """Write more of it.

        Raises:
            NotEnoughDisk: the disk is full; what was written stays.
            RequestError: it cannot be written for another reason.
        """
        rest = memoryview(data)
        try:
            while rest:
                n_written = self._file.write(rest) or 0
                self._count(rest[:n_written])
                rest = rest[n_written:]
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def restart(self) -> None:
        """Forget what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._sum = self._new_sum()
        self.n_bytes = 0

    def finish(self) -> str:
        """Have what was written survive a loss of power, and return its digest.

        Raises:
            NotEnoughDisk: the disk is full after all.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self._sum.hexdigest()

    def _count(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        self.n_bytes += len(data)
