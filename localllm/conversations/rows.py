"""Reading and writing the tables; each function runs in a transaction of its caller's."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from localllm.conversations.pending import Taken
from localllm.conversations.records import (
    CONVERSATION_COLUMNS,
    NODE_COLUMNS,
    Conversation,
    Node,
    SavedPrompt,
    conversation_of,
    node_of,
    storable,
)
from localllm.conversations.tree import nodes, tree_of
from localllm.errors import RequestError

_TEXTS = frozenset({"title", "draft"})
_OPTIONAL_TEXTS = frozenset({"model", "system"})
_FLAGS = frozenset({"is_pinned", "is_archived"})
_FIELDS = _TEXTS | _OPTIONAL_TEXTS | _FLAGS | {"options", "leaf_id"}
_SHOW_IT = "See `localllm chats list`."


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of a conversation as they are kept.

    Raises:
        RequestError: one does not exist.
    """
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise RequestError(f"A conversation has no {', '.join(unknown)}.", hint=f"It has {', '.join(sorted(_FIELDS))}.")
    return {name: _kept(name, value) for name, value in fields.items()}


def json_of(value: Any) -> str:
    """Return JSON for what is kept; what JSON does not know becomes text."""
    return storable(json.dumps(value if isinstance(value, list) else dict(value), ensure_ascii=False, default=str))


def conversations(db: sqlite3.Connection, with_archived: bool, limit: int | None) -> list[Conversation]:
    """Return those that are not deleted, in their order."""
    found = db.execute(
        f"SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE deleted_s IS NULL AND is_archived <= ?"
        " ORDER BY is_pinned DESC, updated_s DESC, id DESC LIMIT ?",
        (int(with_archived), -1 if limit is None else limit),
    )
    return list(map(conversation_of, found.fetchall()))


def conversation(db: sqlite3.Connection, conversation_id: int) -> Conversation:
    """Return one that is not deleted."""
    row = db.execute(
        f"SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE id = ? AND deleted_s IS NULL", (conversation_id,)
    ).fetchone()
    if row is None:
        raise RequestError(f"There is no conversation {conversation_id}.", hint=_SHOW_IT)
    return conversation_of(row)


def create(db: sqlite3.Connection, values: Mapping[str, Any]) -> Conversation:
    """Insert one; `values` may have created_s and updated_s."""
    now_s = time.time()
    values = {"created_s": now_s, "updated_s": now_s, **values}
    return conversation(db, _insert(db, "conversations", values))


def change(db: sqlite3.Connection, conversation_id: int, values: Mapping[str, Any]) -> Conversation:
    """Change fields of one."""
    leaf_id = values.get("leaf_id")
    if leaf_id is not None:
        _check_belongs(db, conversation_id, leaf_id)
    if values:
        _update(db, "conversations", conversation_id, values)
    return conversation(db, conversation_id)


def set_deleted(db: sqlite3.Connection, conversation_id: int, deleted_s: float | None) -> None:
    """Delete one, or undo that."""
    if db.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation_id,)).fetchone() is None:
        raise RequestError(f"There is no conversation {conversation_id}.", hint=_SHOW_IT)
    _update(db, "conversations", conversation_id, {"deleted_s": deleted_s})


def purge(db: sqlite3.Connection, deleted_until_s: float) -> int:
    """Delete for good what was deleted until then."""
    found = db.execute("SELECT id FROM conversations WHERE deleted_s <= ?", (deleted_until_s,)).fetchall()
    for (conversation_id,) in found:
        delete(db, conversation_id)
    return len(found)


def delete(db: sqlite3.Connection, conversation_id: int) -> None:
    """Delete one for good, if it still is deleted."""
    where = "id = ? AND deleted_s IS NOT NULL"
    if db.execute(f"SELECT 1 FROM conversations WHERE {where}", (conversation_id,)).fetchone() is not None:
        # All at once: a message may not go before those below it, and SQLite asks only at the end of a statement.
        db.execute("DELETE FROM nodes WHERE conversation_id = ?", (conversation_id,))
        db.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,))


def path(db: sqlite3.Connection, conversation_id: int, leaf_id: int | None) -> list[Node]:
    """Return the messages from the root to a leaf."""
    found = conversation(db, conversation_id)
    tree = tree_of(db, conversation_id)
    if leaf_id is not None and leaf_id not in tree.parents:
        raise _not_in(conversation_id, leaf_id)
    return nodes(db, tree, tree.path(found.leaf_id if leaf_id is None else leaf_id))


def siblings(db: sqlite3.Connection, node_id: int) -> list[Node]:
    """Return the children of a message's parent."""
    found = node(db, node_id)
    tree = tree_of(db, found.conversation_id)
    return nodes(db, tree, tree.children().get(tree.parents.get(node_id), []))


def node(db: sqlite3.Connection, node_id: int) -> Node:
    """Return one message."""
    row = db.execute(f"SELECT {NODE_COLUMNS} FROM nodes WHERE id = ?", (node_id,)).fetchone()
    if row is None:
        raise RequestError(f"There is no message {node_id}.", hint="It was deleted, perhaps.")
    beside = [
        id_
        for (id_,) in db.execute(
            "SELECT id FROM nodes WHERE conversation_id = ? AND parent_id IS ? ORDER BY id", (row[1], row[2])
        )
    ]
    return node_of(row, len(beside), beside.index(node_id)) if node_id in beside else node_of(row)


def add(db: sqlite3.Connection, conversation_id: int, values: Mapping[str, Any]) -> Node:
    """Insert a message, and show it."""
    conversation(db, conversation_id)
    parent_id = values["parent_id"]
    if parent_id is not None:
        _check_belongs(db, conversation_id, parent_id)
    now_s = time.time()
    node_id = _insert(db, "nodes", {"conversation_id": conversation_id, "created_s": now_s, **values})
    _update(db, "conversations", conversation_id, {"leaf_id": node_id, "updated_s": now_s})
    return node(db, node_id)


def change_node(db: sqlite3.Connection, node_id: int, values: Mapping[str, Any]) -> Node:
    """Change a message, as the latest thing that happened in its conversation."""
    _update(db, "nodes", node_id, values)
    found = node(db, node_id)
    _update(db, "conversations", found.conversation_id, {"updated_s": time.time()})
    return found


def remove_node(db: sqlite3.Connection, node_id: int) -> None:
    """Delete a message that nothing follows; the one before it is the leaf then."""
    found = node(db, node_id)
    if db.execute("SELECT 1 FROM nodes WHERE parent_id = ?", (node_id,)).fetchone() is not None:
        raise RequestError(f"Something follows message {node_id}.", hint="Delete what follows it first.")
    db.execute("DELETE FROM nodes WHERE id = ?", (node_id,))
    _update(db, "conversations", found.conversation_id, {"leaf_id": found.parent_id})


def choose(db: sqlite3.Connection, conversation_id: int, node_id: int) -> list[Node]:
    """Show the branch of a message."""
    conversation(db, conversation_id)
    tree = tree_of(db, conversation_id)
    if node_id not in tree.parents:
        raise _not_in(conversation_id, node_id)
    leaf_id = tree.newest_below(node_id)
    _update(db, "conversations", conversation_id, {"leaf_id": leaf_id})
    return nodes(db, tree, tree.path(leaf_id))


def append(db: sqlite3.Connection, taken: Taken) -> None:
    """Write what waited; messages and conversations that are gone take nothing."""
    for column, pieces in (("text", taken.texts), ("reasoning", taken.reasonings)):
        for node_id, piece in pieces.items():
            db.execute(f"UPDATE nodes SET {column} = {column} || ? WHERE id = ?", (storable(piece), node_id))
    for conversation_id, draft in taken.drafts.items():
        _update(db, "conversations", conversation_id, {"draft": storable(draft)})


def prompts(db: sqlite3.Connection) -> list[SavedPrompt]:
    """Return the saved prompts."""
    found = db.execute("SELECT id, name, text, tags FROM prompts ORDER BY name COLLATE NOCASE, id").fetchall()
    return [SavedPrompt(id_, str(name), str(text), _tags(tags)) for id_, name, text, tags in found]


def save_prompt(db: sqlite3.Connection, name: str, text: str, tags: str) -> SavedPrompt:
    """Insert a prompt, or change the one of this name."""
    db.execute(
        "INSERT INTO prompts (name, text, tags) VALUES (?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET text = excluded.text, tags = excluded.tags",
        (name, text, tags),
    )
    id_ = db.execute("SELECT id FROM prompts WHERE name = ?", (name,)).fetchone()[0]
    return SavedPrompt(id_, name, text, _tags(tags))


def insert_node(db: sqlite3.Connection, values: Mapping[str, Any]) -> int:
    """Insert a message as it is, of an import."""
    return _insert(db, "nodes", values)


def _insert(db: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    marks = ", ".join("?" * len(values))
    inserted = db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    assert inserted.lastrowid is not None, "an insertion has a row"
    return inserted.lastrowid


def _update(db: sqlite3.Connection, table: str, id_: int, values: Mapping[str, Any]) -> None:
    setting = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE {table} SET {setting} WHERE id = ?", (*values.values(), id_))


def _check_belongs(db: sqlite3.Connection, conversation_id: int, node_id: int) -> None:
    row = db.execute("SELECT conversation_id FROM nodes WHERE id = ?", (node_id,)).fetchone()
    if row is None or row[0] != conversation_id:
        raise _not_in(conversation_id, node_id)


def _not_in(conversation_id: int, node_id: int) -> RequestError:
    return RequestError(f"There is no message {node_id} in conversation {conversation_id}.", hint="Open it again.")


def _kept(name: str, value: Any) -> Any:
    if name == "options":
        return json_of(value or {})
    if name in _FLAGS:
        return int(bool(value))
    if name == "leaf_id" or (value is None and name in _OPTIONAL_TEXTS):
        return value
    return storable(str(value))


def _tags(kept: object) -> tuple[str, ...]:
    try:
        found = json.loads(str(kept))
    except (ValueError, RecursionError):
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()
