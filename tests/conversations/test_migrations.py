"""Files of older versions."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from localllm.conversations import ConversationStore, schema
from localllm.conversations.schema import MIGRATIONS, VERSION, is_sound, migrate, version_of


@pytest.fixture
def old(file: Path) -> Path:
    """A file of version 1, in which nothing could be searched."""
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        migrate(db, to=1)
        db.execute("INSERT INTO conversations (title, leaf_id, created_s, updated_s) VALUES ('Old bread', 2, 1.0, 2.0)")
        db.execute("INSERT INTO nodes (conversation_id, role, text, created_s) VALUES (1, 'user', 'How?', 1.0)")
        answer = "(conversation_id, parent_id, role, text, created_s) VALUES (1, 1, 'assistant', 'Flour.', 2.0)"
        db.execute(f"INSERT INTO nodes {answer}")
        assert version_of(db) == 1
    return file


def test_an_old_file_is_brought_up_to_date_and_a_copy_kept(old: Path) -> None:
    store = ConversationStore.open(old)
    assert store.notice is None and store.is_writable
    (conversation,) = store.conversations()
    assert (conversation.title, conversation.n_messages) == ("Old bread", 2)
    assert [node.text for node in store.path(conversation.id)] == ["How?", "Flour."]
    assert [hit.node_id for hit in store.search("flour")] == [2]
    assert [hit.node_id for hit in store.search("bread")] == [None]
    store.close()
    with contextlib.closing(sqlite3.connect(old)) as db:
        assert version_of(db) == VERSION and is_sound(db)
    with contextlib.closing(sqlite3.connect(f"{old}.version-1")) as kept:
        assert version_of(kept) == 1
        assert kept.execute("SELECT count(*) FROM nodes").fetchone() == (2,)


def test_a_step_that_fails_leaves_no_half_of_itself(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = (MIGRATIONS[0], MIGRATIONS[1] + "INSERT INTO no_such_table VALUES (1);\n")
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as db:
        monkeypatch.setattr(schema, "MIGRATIONS", failing)
        with pytest.raises(sqlite3.OperationalError):
            migrate(db)
        assert version_of(db) == 1
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'node_index%'").fetchone() == (0,)
    monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS)
    store = ConversationStore.open(old)
    assert len(store.search("flour")) == 1
    store.close()


def test_an_old_file_that_is_written_meanwhile_is_read(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.conversations.opening.BUSY_S", 0.1)
    with contextlib.closing(sqlite3.connect(old, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        store = ConversationStore.open(old)
        assert time.monotonic() - began_s < 10
        assert not store.is_writable and len(store.search("flour")) == 1
        store.close()
        other.execute("ROLLBACK")
        assert version_of(other) == 1


def test_a_fresh_file_is_sound_and_of_this_version(file: Path) -> None:
    ConversationStore.open(file).close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        assert version_of(db) == VERSION and is_sound(db)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        db.execute("DROP INDEX nodes_of_parent")
        assert not is_sound(db)
