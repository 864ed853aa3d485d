"""The tables, as numbered steps: PRAGMA user_version is how many of them a file has seen.

A step is never changed once it was released; what is to be different is a further step.
"""

from __future__ import annotations

import sqlite3

from localllm.conversations.faults import FAULTS

APPLICATION_ID = 0x4C4C4D63
"""In the file's header ("LLMc"): a database without it is somebody else's."""

_TABLES = """
CREATE TABLE conversations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL DEFAULT '',
    model TEXT,
    system TEXT,
    options TEXT NOT NULL DEFAULT '{}',
    leaf_id INTEGER,
    draft TEXT NOT NULL DEFAULT '',
    n_messages INTEGER NOT NULL DEFAULT 0,
    created_s REAL NOT NULL,
    updated_s REAL NOT NULL,
    is_pinned INTEGER NOT NULL DEFAULT 0,
    is_archived INTEGER NOT NULL DEFAULT 0,
    deleted_s REAL
);
CREATE INDEX conversations_in_order ON conversations (is_pinned DESC, updated_s DESC, id DESC);
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation_id INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent_id INTEGER REFERENCES nodes (id),
    role TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'done',
    created_s REAL NOT NULL,
    writer TEXT,
    model TEXT,
    tool_call_id TEXT,
    error TEXT,
    facts TEXT NOT NULL DEFAULT '{}',
    tool_calls TEXT NOT NULL DEFAULT '',
    reasoning TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL DEFAULT ''
);
CREATE INDEX nodes_of_conversation ON nodes (conversation_id, parent_id);
CREATE INDEX nodes_of_parent ON nodes (parent_id);
CREATE INDEX nodes_in_writing ON nodes (writer) WHERE writer IS NOT NULL;
CREATE TRIGGER node_counted AFTER INSERT ON nodes BEGIN
    UPDATE conversations SET n_messages = n_messages + 1 WHERE id = new.conversation_id;
END;
CREATE TRIGGER node_uncounted AFTER DELETE ON nodes BEGIN
    UPDATE conversations SET n_messages = n_messages - 1 WHERE id = old.conversation_id;
END;
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    tags TEXT NOT NULL DEFAULT '[]'
);
"""

# A message is indexed when it is complete: to index each piece of a stream anew would write the index over and over.
_SEARCH = """
CREATE VIRTUAL TABLE node_index USING fts5 (
    text, content='nodes', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
CREATE VIRTUAL TABLE title_index USING fts5 (
    title, content='conversations', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='2 3'
);
CREATE TRIGGER node_indexed AFTER INSERT ON nodes WHEN new.state <> 'writing' BEGIN
    INSERT INTO node_index (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER node_unindexed AFTER DELETE ON nodes WHEN old.state <> 'writing' BEGIN
    INSERT INTO node_index (node_index, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER node_reindexed AFTER UPDATE OF text, state ON nodes
WHEN old.state <> 'writing' AND new.state <> 'writing' BEGIN
    INSERT INTO node_index (node_index, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO node_index (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER node_completed AFTER UPDATE OF text, state ON nodes
WHEN old.state = 'writing' AND new.state <> 'writing' BEGIN
    INSERT INTO node_index (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER node_resumed AFTER UPDATE OF text, state ON nodes
WHEN old.state <> 'writing' AND new.state = 'writing' BEGIN
    INSERT INTO node_index (node_index, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER title_indexed AFTER INSERT ON conversations BEGIN
    INSERT INTO title_index (rowid, title) VALUES (new.id, new.title);
END;
CREATE TRIGGER title_unindexed AFTER DELETE ON conversations BEGIN
    INSERT INTO title_index (title_index, rowid, title) VALUES ('delete', old.id, old.title);
END;
CREATE TRIGGER title_changed AFTER UPDATE OF title ON conversations BEGIN
    INSERT INTO title_index (title_index, rowid, title) VALUES ('delete', old.id, old.title);
    INSERT INTO title_index (rowid, title) VALUES (new.id, new.title);
END;
"""

_INDEX = """
INSERT INTO node_index (rowid, text) SELECT id, text FROM nodes WHERE state <> 'writing';
INSERT INTO title_index (rowid, title) SELECT id, title FROM conversations;
"""

_CLEAR_INDEX = """
INSERT INTO node_index (node_index) VALUES ('delete-all');
INSERT INTO title_index (title_index) VALUES ('delete-all');
"""

MIGRATIONS = (_TABLES, _SEARCH + _INDEX)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """Return how many steps a database has seen; 0: none, and it may be anybody's."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, *, to: int = VERSION) -> None:
    """Take the steps that a database has not seen, each whole or not at all."""
    for version in range(version_of(connection), to):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version_of(connection) == version:
                for statement in _statements(MIGRATIONS[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def rebuild_index(connection: sqlite3.Connection) -> None:
    """Make the full-text index anew, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(_CLEAR_INDEX + _INDEX):
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_sound(connection: sqlite3.Connection) -> bool:
    """Say whether a database has no damage that SQLite can see, and the tables that it should have."""
    try:
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            return False
        found = _objects(connection)
    except FAULTS:
        return False
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(fresh)
        return _objects(fresh) <= found
    finally:
        fresh.close()


def _objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return names and definitions of tables, indexes and triggers, but for those that SQLite itself makes."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    internal = ("sqlite_", "node_index_", "title_index_")
    return {(name, sql) for name, sql in rows if not name.startswith(internal)}


def _statements(script: str) -> list[str]:
    """Return the statements of a script; `executescript` would end the transaction that they belong in."""
    statements: list[str] = []
    pending = ""
    for line in script.strip().splitlines():
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
