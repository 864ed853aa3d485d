"""What can still be read of a damaged file, row by row, into a new one."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from localllm.conversations.faults import FAULTS, lenient_text
from localllm.conversations.records import ROLES, STATES

MAX_GAP = 1 << 24
"""Ids beyond the last row that was read at which there may be others, where the file does not say."""

N_SINGLE_STEPS = 2000
"""Rows that are tried one by one, where none can be read, before others are left out."""

_CONVERSATIONS = (
    "title", "model", "system", "options", "leaf_id", "draft", "created_s", "updated_s",
    "is_pinned", "is_archived", "deleted_s",
)  # fmt: skip
_NODES = (
    "conversation_id", "parent_id", "role", "state", "created_s", "model", "tool_call_id", "error", "facts",
    "tool_calls", "reasoning", "text",
)  # fmt: skip
_PROMPTS = ("name", "text", "tags")
_SIGNS = {
    "conversations": {"id", "title", "leaf_id", "updated_s"},
    "nodes": {"id", "conversation_id", "parent_id", "role", "state", "text"},
    "prompts": {"id", "name", "text", "tags"},
}
"""By which a table is known to be ours: other programs have conversations, too."""
_NULLABLE = frozenset({"model", "system", "leaf_id", "deleted_s", "parent_id", "tool_call_id", "error"})
_NUMBERS = frozenset({"created_s", "updated_s", "is_pinned", "is_archived", "leaf_id", "deleted_s"})
_JSON = {"options": "{}", "facts": "{}", "tags": "[]"}


class Salvaged(NamedTuple):
    """How much was read."""

    n_conversations: int
    n_messages: int


def salvage(source: sqlite3.Connection, target: sqlite3.Connection) -> Salvaged:
    """Copy what can be read, ids kept, into an empty database; what is lost leaves no trace but its messages' children.

    A message whose parent is lost goes below the one that was written before it.
    """
    source.text_factory = lenient_text
    target.execute("BEGIN IMMEDIATE")
    try:
        kept = _conversations(source, target)
        n_messages = _nodes(source, target, kept)
        for id_, row in _rows(source, "prompts", _PROMPTS):
            _insert(target, "prompts", id_, row)
        target.execute("COMMIT")
    except BaseException:
        if target.in_transaction:
            target.execute("ROLLBACK")
        raise
    return Salvaged(len(kept), n_messages)


def _conversations(source: sqlite3.Connection, target: sqlite3.Connection) -> set[int]:
    return {
        id_ for id_, row in _rows(source, "conversations", _CONVERSATIONS) if _insert(target, "conversations", id_, row)
    }


def _nodes(source: sqlite3.Connection, target: sqlite3.Connection, kept: set[int]) -> int:
    latest: dict[int, int] = {}
    home: dict[int, int] = {}
    for id_, row in _rows(source, "nodes", _NODES):
        conversation_id = row["conversation_id"]
        if not isinstance(conversation_id, int) or not 0 < conversation_id < 1 << 62 or row["role"] not in ROLES:
            continue
        if conversation_id not in kept:
            found = {"title": "Recovered", "created_s": row["created_s"], "updated_s": row["created_s"]}
            if not _insert(target, "conversations", conversation_id, found):
                continue
            kept.add(conversation_id)
        if row["state"] not in STATES or row["state"] == "writing":
            row["state"] = "interrupted"
        if row["parent_id"] is not None and home.get(row["parent_id"]) != conversation_id:
            row["parent_id"] = latest.get(conversation_id)
        if _insert(target, "nodes", id_, row):
            latest[conversation_id] = id_
            home[id_] = conversation_id
    return len(home)


def _insert(target: sqlite3.Connection, table: str, id_: int, row: dict[str, Any]) -> bool:
    columns = ", ".join(("id", *row))
    marks = ", ".join("?" * (len(row) + 1))
    try:
        target.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", (id_, *row.values()))
    except sqlite3.IntegrityError:
        return False
    return True


def _rows(source: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ids and rows, by rising ids, stepping over what cannot be read, at last in leaps that double."""
    present = _present(source, table, columns)
    if not present:
        return
    last, end = 0, _last_id(source, table)
    start, n_failures = 1, 0
    while start <= (end if end is not None else last + MAX_GAP):
        try:
            for id_, *values in source.execute(
                f"SELECT id, {', '.join(present)} FROM {table} WHERE id >= ? ORDER BY id", (start,)
            ):
                if not isinstance(id_, int) or id_ < start:
                    raise sqlite3.DatabaseError("rows out of order")
                last, start, n_failures = id_, id_ + 1, 0
                yield id_, {name: _value(name, value) for name, value in zip(present, values, strict=True)}
            return
        except FAULTS:
            n_failures += 1
            start += 1 << max(0, n_failures - N_SINGLE_STEPS)


def _present(source: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> list[str]:
    """Return those of the columns that the table has, which is of another version, perhaps."""
    try:
        found = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    except FAULTS:
        return []
    return [name for name in columns if name in found] if _SIGNS[table] <= found else []


def _last_id(source: sqlite3.Connection, table: str) -> int | None:
    for query in (f"SELECT max(id) FROM {table}", f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'"):
        with contextlib.suppress(*FAULTS):
            row = source.execute(query).fetchone()
            if row is not None and isinstance(row[0], int) and 0 < row[0] < 1 << 62:
                return row[0]
    return None


def _value(name: str, value: Any) -> Any:
    if name in ("conversation_id", "parent_id"):
        return value if isinstance(value, int) else None
    if name in _NUMBERS:
        usable = isinstance(value, int | float)
        return value if usable else None if name in _NULLABLE else time.time() if name.endswith("_s") else 0
    if isinstance(value, str):
        return value
    return None if name in _NULLABLE else _JSON.get(name, "")
