"""Which process writes a message, and whether it still lives."""

from __future__ import annotations

import functools
import os
import sqlite3

_TOLERANCE_S = 2.0
"""A process's start is reckoned from the clock, which may be set meanwhile."""


def this_process() -> str:
    """Return this process as it is written beside a message: a process id alone may come again."""
    return _name(os.getpid())


def release_abandoned(connection: sqlite3.Connection) -> None:
    """Mark as interrupted what processes were writing that have ended."""
    for (writer,) in connection.execute("SELECT DISTINCT writer FROM nodes WHERE writer IS NOT NULL").fetchall():
        if not _is_alive(writer):
            interrupt(connection, writer)


def interrupt(connection: sqlite3.Connection, writer: str, node_ids: set[int] | None = None) -> None:
    """Mark as interrupted what a process was writing, or only some of it."""
    change = "UPDATE nodes SET state = 'interrupted', writer = NULL WHERE writer = ?"
    if node_ids is None:
        connection.execute(change, (writer,))
        return
    for node_id in node_ids:
        connection.execute(f"{change} AND id = ?", (writer, node_id))


@functools.cache
def _name(pid: int) -> str:
    import psutil

    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def _is_alive(writer: object) -> bool:
    import psutil

    pid, _, started_s = str(writer).partition(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started_s)) <= _TOLERANCE_S
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False
