"""What an error of SQLite means for the file: damaged, or sound and refusing."""

from __future__ import annotations

import sqlite3
from enum import Enum, auto

_CORRUPT_INDEX = 267
"""SQLITE_CORRUPT_VTAB: the tables are sound, the full-text index is not."""
_SHORT_READ = 522
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_REASONS = {
    sqlite3.SQLITE_PERM: "it may not be used",
    sqlite3.SQLITE_BUSY: "another process has it locked",
    sqlite3.SQLITE_LOCKED: "another process has it locked",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_IOERR: "the disk fails",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "another process has it locked",
    sqlite3.SQLITE_NOLFS: "it is too big for the disk",
    sqlite3.SQLITE_AUTH: "it may not be used",
}


FAULTS = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's functions raise; the second, where a message of SQLite quotes what is damaged."""


class Fault(Enum):
    """What went wrong."""

    DAMAGED = auto()
    INDEX = auto()
    """Only the full-text index is damaged, which can be made anew."""
    TEXT = auto()
    """A text that is not UTF-8, which can be read with marks where it is not."""
    REFUSED = auto()
    """The file is sound, and cannot be written, or not be read."""
    DOUBTFUL = auto()
    """A statement failed, which it should not: damage, if a closer look finds any."""
    OURS = auto()
    """A mistake of the program."""


def fault_of(error: Exception) -> Fault:
    """Return what an error means for the file."""
    if isinstance(error, UnicodeDecodeError):
        return Fault.DAMAGED
    code = _code(error)
    if code is None:
        return Fault.TEXT if "decode" in str(error) else Fault.OURS
    if code == _CORRUPT_INDEX:
        return Fault.INDEX
    if code & 0xFF in _DAMAGED or code == _SHORT_READ:
        return Fault.DAMAGED
    return Fault.REFUSED if code & 0xFF in _REASONS else Fault.DOUBTFUL


def reason_of(error: Exception) -> str:
    """Say why a file refused, as in "the disk is full"."""
    code = _code(error)
    if code is not None:
        return _REASONS.get(code & 0xFF, str(error))
    return getattr(error, "strerror", None) or str(error)


def is_locked(error: Exception) -> bool:
    """Say whether another process is what hinders."""
    code = _code(error)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


def lenient_text(data: bytes) -> str:
    """Return a text, with marks for what is not UTF-8."""
    return data.decode("utf-8", "replace")


def _code(error: Exception) -> int | None:
    return getattr(error, "sqlite_errorcode", None)
