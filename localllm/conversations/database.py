"""One database for all threads: transactions, and what happens when the file fails in the middle."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from localllm.conversations.faults import FAULTS, Fault, fault_of, is_locked, lenient_text, reason_of
from localllm.conversations.merging import merge
from localllm.conversations.opening import (
    IN_MEMORY,
    NotOurs,
    Opened,
    connect,
    copy,
    identity_of,
    in_memory,
    open_database,
    opened_as_it_is,
    replaced,
    salvaged_into_memory,
)
from localllm.conversations.schema import is_sound, rebuild_index
from localllm.errors import RequestError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_N_ATTEMPTS = 4
"""Index made anew, file replaced, work done in memory, and once more."""


class Database:
    """One connection and one lock.

    A damaged file is replaced by what can be read of it; one that can no longer be written is read into memory, where
    the work goes on until the file takes it back.

    Args:
        path: the file.
        on_notice: called, by any thread, with what went wrong and what was done.
    """

    def __init__(self, path: Path, on_notice: Callable[[str], None]) -> None:
        self.path = path
        self._tell = on_notice
        self._lock = threading.RLock()
        opened = open_database(path)
        self._connection = opened.connection
        self._is_file = opened.is_file
        self._refusing: sqlite3.Connection | None = None
        """The file that cannot be written now, while the work is done in memory."""
        self._version_refused = 0
        self._since_s = time.time()
        """Since when the work is done in memory, if it is."""
        self._is_closed = False
        self._identity = identity_of(path)
        if opened.notice is not None:
            on_notice(opened.notice)

    @property
    def is_file(self) -> bool:
        """Whether what is done lasts longer than the program."""
        return self._is_file

    def read(self, work: Work[T]) -> T:
        """Do what changes nothing."""
        return self._run(work)

    def write(self, work: Work[T], *, is_patient: bool = False) -> T:
        """Do something in one transaction; it may be done again from its beginning, on another connection.

        Args:
            work: what is done.
            is_patient: raise where another process has the file locked, instead of going on in memory.
        """
        return self._run(lambda connection: _in_transaction(connection, work), is_patient=is_patient)

    def check(self) -> None:
        """Look for damage that nobody has met yet, on a connection of its own, and replace the file if there is any."""
        if not self._is_file:
            return
        with contextlib.suppress(*FAULTS), contextlib.closing(connect(self.path)) as connection:
            if is_sound(connection):
                return
        with self._lock:
            if self._is_file and not self._is_closed and not is_sound(self._connection):
                self._replace()

    def take_back(self) -> bool:
        """Write what was done in memory to the file, if it takes it and nobody else has changed it; True if it did."""
        with self._lock:
            if self._refusing is None or self._is_closed:
                return False
            try:
                if _data_version(self._refusing) != self._version_refused:
                    return False
                copy(self._connection, self._refusing)
            except FAULTS:
                return False
            self._connection.close()
            self._connection, self._refusing, self._is_file = self._refusing, None, True
            self._tell(f"{self.path} can be written again, and has everything.")
            return True

    def keep(self) -> None:
        """Have the file take, at the end, what was done in memory, as a copy or as an addition to what others did."""
        with self._lock:
            if self._is_file or self._is_closed or self.take_back():
                return
            with contextlib.suppress(*FAULTS, NotOurs, RequestError):
                file = self._refusing or opened_as_it_is(self.path)
                if file is not None:
                    n_merged = _in_transaction(file, lambda db: merge(self._connection, db, self._since_s))
                    self._tell(f"{self.path} can be written again; what is new in {n_merged} was added to it.")
                    if file is not self._refusing:
                        file.close()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._is_closed = True
            self._connection.close()
            if self._refusing is not None:
                self._refusing.close()

    def _run(self, work: Work[T], *, is_patient: bool = False) -> T:
        with self._lock:
            if self._is_closed:
                raise RequestError("The conversations are closed.", hint="Open them again.")
            self._follow_file()
            for attempt in range(_N_ATTEMPTS):
                try:
                    return work(self._connection)
                except FAULTS as error:
                    if attempt == _N_ATTEMPTS - 1 or (is_patient and is_locked(error)):
                        raise
                    self._mend(error, is_first=attempt == 0)
        raise AssertionError("the last attempt returns or raises")

    def _mend(self, error: Exception, *, is_first: bool) -> None:
        """Make it possible to do the work again, or raise the error."""
        fault = fault_of(error)
        if fault is Fault.TEXT:
            self._connection.text_factory = lenient_text
            return
        if fault is Fault.OURS or (fault is Fault.DOUBTFUL and is_sound(self._connection)):
            raise error
        if fault is Fault.REFUSED:
            if not self._is_file:
                raise error
            self._go_on_in_memory(error)
            return
        if fault is Fault.INDEX and is_first:
            with contextlib.suppress(*FAULTS):
                rebuild_index(self._connection)
                return
        self._replace()

    def _replace(self) -> None:
        if not self._is_file:
            memory = salvaged_into_memory(self._connection)
            self._connection.close()
            self._connection = memory
            return
        self._connection.close()
        self._use(replaced(self.path, self._identity, "is damaged"))

    def _go_on_in_memory(self, error: Exception) -> None:
        why = f"Cannot write {self.path}: {reason_of(error)}"
        memory = connect(":memory:")
        try:
            version = _data_version(self._connection)
            copy(self._connection, memory)
        except FAULTS:
            memory.close()
            self._connection.close()
            self._use(in_memory(self.path, why))
            return
        self._connection, self._refusing, self._version_refused = memory, self._connection, version
        self._is_file = False
        self._since_s = time.time()
        self._tell(f"{why}. {IN_MEMORY}")

    def _use(self, opened: Opened) -> None:
        self._connection, self._is_file = opened.connection, opened.is_file
        self._identity = identity_of(self.path)
        if opened.notice is not None:
            self._tell(opened.notice)

    def _follow_file(self) -> None:
        """Notice that another process has replaced the file, or that somebody has deleted it."""
        if not self._is_file:
            return
        identity = identity_of(self.path)
        if identity == self._identity:
            return
        if identity is None:
            self._write_anew()
        else:
            self._connection.close()
            self._use(open_database(self.path))

    def _write_anew(self) -> None:
        """Put a file that was deleted back, since its content is still open here."""
        held = self._connection
        opened = open_database(self.path)
        with contextlib.suppress(*FAULTS):
            copy(held, opened.connection)
        held.close()
        self._use(opened)


def _in_transaction(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(*FAULTS):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return result


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
