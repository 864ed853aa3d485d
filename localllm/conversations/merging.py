"""Adding what was said in memory to a file that others have changed meanwhile.

Ids may mean something else there by then, so a row counts as the same only if it began at the same time, too. Nothing
in the file is deleted or shortened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

_CONVERSATION = (
    "title, model, system, options, draft, created_s, updated_s, is_pinned, is_archived"  # but for ids and counts
)
_NODE = "role, state, created_s, model, tool_call_id, error, facts, tool_calls, reasoning, text"
_CHANGES = "state, error, facts, tool_calls, reasoning, text"


def merge(memory: sqlite3.Connection, file: sqlite3.Connection, since_s: float) -> int:
    """Add to a file, in the caller's transaction, the conversations that went on in memory; return how many.

    Args:
        memory: where they went on.
        file: where they are to be kept.
        since_s: when that began.
    """
    n_merged = 0
    for conversation_id, leaf_id, draft, created_s in memory.execute(
        "SELECT id, leaf_id, draft, created_s FROM conversations"
        " WHERE deleted_s IS NULL AND (updated_s >= ? OR draft <> '') ORDER BY id",
        (since_s,),
    ).fetchall():
        found = file.execute(
            "SELECT draft FROM conversations WHERE id = ? AND created_s = ?", (conversation_id, created_s)
        ).fetchone()
        home = conversation_id if found is not None else _insert_conversation(memory, file, conversation_id)
        ids, is_changed = _merge_nodes(memory, file, conversation_id, home)
        if is_changed:
            file.execute(
                "UPDATE conversations SET leaf_id = ?, updated_s = max(updated_s, ?) WHERE id = ?",
                (ids.get(leaf_id), since_s, home),
            )
        if found == ("",) and draft:
            is_changed = True
            file.execute("UPDATE conversations SET draft = ? WHERE id = ?", (draft, home))
        n_merged += is_changed or found is None
    for prompt in memory.execute("SELECT name, text, tags FROM prompts").fetchall():
        file.execute("INSERT OR IGNORE INTO prompts (name, text, tags) VALUES (?, ?, ?)", prompt)
    return n_merged


def _insert_conversation(memory: sqlite3.Connection, file: sqlite3.Connection, conversation_id: int) -> int:
    row = memory.execute(f"SELECT {_CONVERSATION} FROM conversations WHERE id = ?", (conversation_id,)).fetchone()
    return _insert(file, "conversations", _CONVERSATION, row)


def _merge_nodes(
    memory: sqlite3.Connection, file: sqlite3.Connection, conversation_id: int, home: int
) -> tuple[dict[int | None, int | None], bool]:
    """Return the messages' ids in the file, and whether any is new or longer there."""
    ids: dict[int | None, int | None] = {None: None}
    is_changed = False
    rows = memory.execute(
        f"SELECT id, parent_id, {_NODE} FROM nodes WHERE conversation_id = ? ORDER BY id", (conversation_id,)
    )
    for node_id, parent_id, *values in rows.fetchall():
        kept = file.execute(
            f"SELECT {_CHANGES} FROM nodes WHERE id = ? AND conversation_id = ? AND created_s = ?",
            (node_id, home, values[2]),
        ).fetchone()
        if kept is None:
            columns = f"conversation_id, parent_id, {_NODE}"
            ids[node_id] = _insert(file, "nodes", columns, (home, ids.get(parent_id), *values))
            is_changed = True
            continue
        ids[node_id] = node_id
        changed = (values[1], *values[5:])
        if changed != kept and len(changed[-1]) >= len(kept[-1]):
            marks = ", ".join(f"{name} = ?" for name in _CHANGES.split(", "))
            file.execute(f"UPDATE nodes SET {marks}, writer = NULL WHERE id = ?", (*changed, node_id))
            is_changed = True
    return ids, is_changed


def _insert(file: sqlite3.Connection, table: str, columns: str, values: Sequence[Any]) -> int:
    inserted = file.execute(f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(values))})", tuple(values))
    assert inserted.lastrowid is not None, "an insertion has a row"
    return inserted.lastrowid
