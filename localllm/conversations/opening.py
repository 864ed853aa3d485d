"""Opening the file of conversations, whatever state it is in."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localllm.conversations.faults import FAULTS, Fault, fault_of, is_locked, reason_of
from localllm.conversations.salvage import Salvaged, salvage
from localllm.conversations.schema import APPLICATION_ID, VERSION, migrate, version_of
from localllm.errors import RequestError
from localllm.paths import ensure

Identity = tuple[int, int]
"""Device and inode."""

BUSY_S = 2.0
"""How long another process may have the file locked."""
_LOCK_S = 10.0
IN_MEMORY = "What is said now is kept until the end of the program only."


@dataclass
class Opened:
    """A database that works."""

    connection: sqlite3.Connection
    is_file: bool = True
    notice: str | None = None


class NotOurs(Exception):
    """A sound database, and not one of conversations that this version knows."""


def open_database(path: Path) -> Opened:
    """Open the file, a new one if there is none; a damaged one is moved aside, one that refuses is read into memory."""
    identity = identity_of(path)
    try:
        ensure(path.parent)
        connection = opened_as_it_is(path)
        if connection is not None:
            return Opened(connection)
        with only_here(path):
            return Opened(_prepared(path))
    except NotOurs as error:
        return replaced(path, identity, str(error))
    except RequestError as error:
        return in_memory(path, error.message.rstrip("."))
    except (*FAULTS, OSError) as error:
        if isinstance(error, FAULTS) and fault_of(error) is not Fault.REFUSED:
            return replaced(path, identity, "is damaged")
        return in_memory(path, f"Cannot write {path}: {reason_of(error)}")


def replaced(path: Path, identity: Identity | None, what: str) -> Opened:
    """Move a file aside that is not to be used, and begin a new one with what can be read of it.

    Args:
        path: the file.
        identity: which file it was that is bad; another process may have replaced it meanwhile.
        what: is wrong with it.
    """
    with only_here(path):
        if identity_of(path) != identity:
            with contextlib.suppress(*FAULTS, NotOurs):
                connection = opened_as_it_is(path)
                if connection is not None:
                    return Opened(connection)
        try:
            aside = _move_aside(path)
            connection = _prepared(path)
        except (*FAULTS, OSError) as error:
            return in_memory(path, f"{path} {what}, and cannot be moved aside: {reason_of(error)}")
        saved = _salvage_file(aside, connection)
    return Opened(connection, notice=f"{path.name} {what}. It was moved to {aside}; {_told(saved)}.")


def in_memory(path: Path, why: str) -> Opened:
    """Read what can be read of a file into memory."""
    memory = _read_into_memory(path)
    if memory is None:
        memory = connect(":memory:")
        migrate(memory)
    return Opened(memory, is_file=False, notice=f"{why}. {IN_MEMORY}")


def identity_of(path: Path) -> Identity | None:
    """Return which file it is that has this path now, or None."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy a database, or raise if it is locked.

    Raises:
        sqlite3.Error: it cannot be read, or not be written.
    """

    def give_up_if_busy(status: int, _remaining: int, _total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise sqlite3.OperationalError("database is locked")

    source.backup(target, progress=give_up_if_busy)


def salvaged_into_memory(source: sqlite3.Connection) -> sqlite3.Connection:
    """Return a database in memory with what can be read of another."""
    memory = connect(":memory:")
    migrate(memory)
    salvage(source, memory)
    return memory


def connect(target: Path | str) -> sqlite3.Connection:
    """Open a connection that any thread may use, transactions begun and ended by hand."""
    connection = sqlite3.connect(
        target, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=str(target).startswith("file:")
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


@contextlib.contextmanager
def only_here(path: Path) -> Iterator[None]:
    """Have no other process make, change or replace the file meanwhile, as far as the folder allows that."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock", timeout=_LOCK_S, is_singleton=True)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(Timeout, OSError):
            held.enter_context(lock)
        yield


def _read_into_memory(path: Path) -> sqlite3.Connection | None:
    # A journal that cannot be written hinders reading, too, unless the file counts as one that nobody changes.
    for query in ("mode=ro", "mode=ro&immutable=1"):
        memory = connect(":memory:")
        try:
            with contextlib.closing(connect(f"{path.absolute().as_uri()}?{query}")) as source:
                if _state(source):
                    copy(source, memory)
                    migrate(memory)
                    return memory
        except (*FAULTS, NotOurs) as error:
            memory.close()
            if isinstance(error, FAULTS) and is_locked(error):
                return None
    return None


def opened_as_it_is(path: Path) -> sqlite3.Connection | None:
    """Return a connection to a file of this version, or None if there is something to be prepared first."""
    connection = connect(path)
    try:
        if _state(connection) != VERSION:
            connection.close()
            return None
        _settle(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepared(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is new, or of an older version, of which a copy is kept."""
    connection = connect(path)
    try:
        version = _state(connection)
        if 0 < version < VERSION:
            _keep_copy(connection, path.with_name(f"{path.name}.version-{version}"))
        migrate(connection)
        _settle(connection)
    except BaseException:
        connection.close()
        raise
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    return connection


def _settle(connection: sqlite3.Connection) -> None:
    """Set what is of a connection, and find out whether the file can be written."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("ROLLBACK")


def _state(connection: sqlite3.Connection) -> int:
    """Return a database's version, 0 for an empty one.

    Raises:
        NotOurs: it is somebody else's, or of a later version.
    """
    version = version_of(connection)
    n_objects = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if n_objects == 0 and version == 0:
        return 0
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotOurs("is not a database of conversations")
    if not 0 < version <= VERSION:
        raise NotOurs(f"is of a later version of localllm ({version}, not {VERSION})")
    return version


def _keep_copy(connection: sqlite3.Connection, target: Path) -> None:
    target.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(target)) as kept:
        copy(connection, kept)
    with contextlib.suppress(OSError):
        target.chmod(0o600)


def _move_aside(path: Path) -> Path:
    date = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.broken-{date}")
    n = 1
    while aside.exists():
        n += 1
        aside = path.with_name(f"{path.name}.broken-{date}-{n}")
    # The journal goes first: one that stayed behind would be taken for the new file's.
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


def _salvage_file(aside: Path, target: sqlite3.Connection) -> Salvaged:
    try:
        with contextlib.closing(connect(aside)) as source:
            return salvage(source, target)
    except FAULTS:
        return Salvaged(0, 0)


def _told(saved: Salvaged) -> str:
    if not saved.n_conversations:
        return "a new one was begun, since nothing in it could be read"
    return f"{_n(saved.n_conversations, 'conversation')} with {_n(saved.n_messages, 'message')} were read from it"


def _n(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
