"""Damaged files, files that refuse, files that change hands: the store says so and goes on."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.conversations import ConversationStore, opening
from localllm.conversations.schema import VERSION
from localllm.errors import RequestError
from tests.conversations.test_processes import until


def fill(store: ConversationStore, n: int = 5) -> None:
    """Put conversations into a store, long enough for pages of their own."""
    for k in range(n):
        conversation = store.create(title=f"Chat {k}", options={"seed": k})
        parent = None
        for m in range(6):
            parent = store.add(
                conversation.id, parent, "user" if m % 2 == 0 else "assistant", f"words {k} {m} " * 90
            ).id
    store.save_prompt("explain", "Explain this.")


def use(store: ConversationStore) -> None:
    """Do everything once; nothing may raise, but for what was lost since it was listed."""
    for conversation in store.conversations(with_archived=True):
        with contextlib.suppress(RequestError):
            store.path(conversation.id)
            store.messages(conversation.id)
            for node in store.all_nodes(conversation.id):
                store.siblings(node.id)
    store.search("words 1")
    store.prompts()
    mine = store.create(title="After")
    question = store.add(mine.id, None, "user", "Does it still work?")
    answer = store.add(mine.id, question.id, "assistant", state="writing")
    store.append(answer.id, text="It does.")
    store.finish(answer.id, state="done")
    store.choose(mine.id, question.id)
    assert [node.text for node in store.path(mine.id)] == ["Does it still work?", "It does."]
    assert [hit.node_id for hit in store.search('"it does"')][:1] == [answer.id]
    store.save_prompt("again", "Again.")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with conversations."""
    file = tmp_path_factory.mktemp("sound") / "conversations.db"
    store = ConversationStore.open(file)
    fill(store)
    store.close()
    return file


@pytest.fixture
def copy(sound: Path, file: Path) -> Path:
    """A copy of it."""
    file.parent.mkdir(exist_ok=True)
    return Path(shutil.copy(sound, file))


def broken(file: Path) -> list[Path]:
    """Return what was moved aside."""
    return [one for one in file.parent.glob("*.broken-*") if not one.name.endswith(("-wal", "-shm"))]


def test_garbage_is_moved_aside_with_its_journal(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"This is no database at all. " * 500)
    Path(f"{file}-wal").write_bytes(b"nor a journal")
    store = ConversationStore.open(file)
    (aside,) = broken(file)
    assert store.notice is not None and "damaged" in store.notice and str(aside) in store.notice
    assert aside.read_bytes().startswith(b"This is no") and store.is_writable
    use(store)
    store.close()
    again = ConversationStore.open(file)
    assert again.notice is None and [one.title for one in again.conversations()] == ["After"]
    again.close()


def test_a_foreign_database_is_moved_aside(file: Path) -> None:
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE conversations (id INTEGER, title TEXT)")
        other.execute("INSERT INTO conversations VALUES (1, 'of another program')")
        other.commit()
    store = ConversationStore.open(file)
    assert "not a database of conversations" in (store.notice or "") and store.conversations() == []
    use(store)
    store.close()
    with contextlib.closing(sqlite3.connect(broken(file)[0])) as other:
        assert other.execute("SELECT title FROM conversations").fetchone() == ("of another program",)


def test_a_later_version_is_moved_aside_and_read(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy)) as db:
        db.execute("ALTER TABLE nodes ADD COLUMN mood TEXT")
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.commit()
    store = ConversationStore.open(copy)
    assert "later version" in (store.notice or "") and "5 conversations with 30 messages" in (store.notice or "")
    assert len(store.conversations()) == 5 and len(store.search("words")) > 0
    use(store)
    store.close()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file(copy: Path, share: float) -> None:
    data = copy.read_bytes()
    copy.write_bytes(data[: int(len(data) * share)])
    store = ConversationStore.open(copy)
    use(store)
    store.check()
    use(store)
    if share > 0:
        assert broken(copy) and store.notice is not None
    store.close()


@pytest.mark.parametrize("seed", range(30))
def test_damage_anywhere(copy: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(copy.read_bytes())
    for _ in range(chance.choice((1, 4, 16, 64))):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice((1, 8, 200, 5000)))
        data[start:end] = chance.randbytes(end - start)
    copy.write_bytes(data)
    store = ConversationStore.open(copy)
    use(store)
    store.check()
    use(store)
    store.close()
    again = ConversationStore.open(copy)
    assert "After" in [one.title for one in again.conversations()]
    again.close()


def test_what_can_be_read_of_a_damaged_file_is_kept(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    n_pages = len(data) // 4096
    with contextlib.closing(sqlite3.connect(f"file:{copy}?mode=ro", uri=True)) as db:
        query = "SELECT pageno FROM dbstat WHERE name = 'nodes' AND pagetype = 'leaf' ORDER BY pageno"
        try:
            leaves = [page for (page,) in db.execute(query)]
        except sqlite3.OperationalError:
            pytest.skip("this SQLite tells nothing of its pages")
    assert len(leaves) > 4 and n_pages > len(leaves)
    page = leaves[len(leaves) // 2]
    data[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    copy.write_bytes(data)
    notices: list[str] = []
    store = ConversationStore.open(copy)
    store.on_notice = notices.append
    store.check()
    kept = [node for one in store.conversations() for node in store.all_nodes(one.id)]
    assert len(store.conversations()) == 5 and 20 <= len(kept) < 30
    assert "5 conversations" in (store.notice or "")
    assert all(node.text.startswith("words ") for node in kept)
    use(store)
    store.close()


def test_a_damaged_index_is_made_anew(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy)) as db:
        db.execute("UPDATE node_index_data SET block = x'00ff00ff00ff' WHERE id > 1")
        db.commit()
    store = ConversationStore.open(copy)
    assert len(store.search("words")) == 30
    use(store)
    assert len(store.conversations()) == 6
    store.close()


@pytest.fixture
def locked(copy: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else who is writing."""
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_locked_file_is_read_and_the_rest_stays_in_memory(
    copy: Path, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.1)
    store = ConversationStore.open(copy)
    assert not store.is_writable and "has it locked" in (store.notice or "")
    assert len(store.conversations()) == 5
    use(store)
    store.close()
    locked.execute("ROLLBACK")
    again = ConversationStore.open(copy)
    assert again.is_writable and len(again.conversations()) == 5
    again.close()


def test_what_was_said_in_memory_is_added_to_what_others_wrote(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.1)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO conversations (title, created_s, updated_s) VALUES ('Theirs', 7.0, 7.0)")
        store = ConversationStore.open(copy)
        old = store.conversations()[0]
        other.execute("INSERT INTO nodes (conversation_id, role, text, created_s) VALUES (6, 'user', 'taken', 7.0)")
        question = store.add(old.id, old.leaf_id, "user", "And then?")
        store.add(old.id, question.id, "assistant", "Then this.")
        mine = store.create(title="Mine")
        store.add(mine.id, None, "user", "My own")
        assert mine.id == 6
        other.execute("COMMIT")
    store.close()
    assert "added" in (store.notice or "")
    again = ConversationStore.open(copy)
    titles = {one.title: one.id for one in again.conversations()}
    assert len(titles) == 7
    assert [node.text for node in again.path(titles["Theirs"])] == ["taken"]
    assert [node.text for node in again.path(titles["Mine"])] == ["My own"]
    assert [node.text for node in again.path(old.id)][-2:] == ["And then?", "Then this."]
    assert again.conversation(old.id).n_messages == 8
    assert len(again.search('"then this"')) == 1
    again.close()


def test_an_answer_goes_on_in_memory_and_is_whole_in_the_file(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.05)
    store = ConversationStore.open(copy)
    made = store.create(title="Long answer")
    answer = store.add(made.id, None, "assistant", "First, ", state="writing")
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE conversations SET title = 'Longer answer' WHERE id = ?", (made.id,))
        store.finish(answer.id, state="done", text="First, second.")
        assert not store.is_writable
        other.execute("COMMIT")
    store.close()
    again = ConversationStore.open(copy)
    (node,) = again.path(made.id)
    assert (node.text, node.state, again.conversation(made.id).title) == ("First, second.", "done", "Longer answer")
    again.close()


def test_pieces_wait_for_a_lock_to_end(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.05)
    store = ConversationStore.open(copy)
    conversation = store.conversations()[0]
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.save_draft(conversation.id, "typed meanwhile")
        store.conversations()
        assert store.is_writable
        other.execute("ROLLBACK")
    until(lambda: store.conversation(conversation.id).draft == "typed meanwhile")
    assert store.notice is None
    store.close()


def test_a_full_disk_is_noticed_and_the_file_takes_everything_back(copy: Path) -> None:
    notices: list[str] = []
    store = ConversationStore.open(copy)
    store.on_notice = notices.append
    conversation = store.conversations()[0]
    answer = store.add(conversation.id, conversation.leaf_id, "assistant", state="writing")
    database = store._database
    file = database._connection
    n_pages = file.execute("PRAGMA page_count").fetchone()[0]
    file.execute(f"PRAGMA max_page_count = {n_pages}")
    for _ in range(100):
        store.append(answer.id, text="more and more " * 1000)
    done = store.finish(answer.id, state="done")
    assert len(done.text) == 1_400_000 and not store.is_writable
    assert "the disk is full" in notices[0] and store.notice == notices[0]
    use(store)
    file.execute("PRAGMA max_page_count = 1000000")
    assert database.take_back() and store.is_writable and "can be written again" in notices[-1]
    use(store)
    store.close()
    again = ConversationStore.open(copy)
    assert again.node(answer.id) == done
    again.close()


def test_a_store_that_could_not_be_written_is_saved_when_it_is_closed(copy: Path) -> None:
    store = ConversationStore.open(copy)
    file = store._database._connection
    file.execute(f"PRAGMA max_page_count = {file.execute('PRAGMA page_count').fetchone()[0]}")
    mine = store.create(title="Big")
    store.add(mine.id, None, "user", "big " * 100_000)
    assert not store.is_writable
    file.execute("PRAGMA max_page_count = 1000000")
    store.close()
    again = ConversationStore.open(copy)
    assert len(again.path(mine.id)) == 1
    again.close()


def test_a_read_only_file_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def connect_to_read(target: object, **options: object) -> sqlite3.Connection:
        if target == copy:
            return connect(f"file:{copy}?mode=ro", **{**options, "uri": True})  # type: ignore[call-overload, no-any-return]
        return connect(target, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", connect_to_read)
    store = ConversationStore.open(copy)
    assert not store.is_writable and "read-only" in (store.notice or "") and "until the end" in (store.notice or "")
    assert len(store.conversations()) == 5
    use(store)
    store.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ConversationStore.open(tmp_path / "file" / "conversations.db")
    assert not store.is_writable and "Cannot create" in (store.notice or "")
    use(store)
    store.close()


def test_a_folder_in_the_place_of_the_file(file: Path) -> None:
    file.mkdir(parents=True)
    store = ConversationStore.open(file)
    assert not store.is_writable and store.notice is not None and file.is_dir()
    use(store)
    store.close()


def test_a_file_that_another_process_replaced_is_followed(copy: Path) -> None:
    store = ConversationStore.open(copy)
    assert len(store.conversations()) == 5
    for suffix in ("-wal", "-shm", ""):
        Path(f"{copy}{suffix}").rename(f"{copy}.away{suffix}")
    other = ConversationStore.open(copy)
    other.create(title="New")
    assert [one.title for one in store.conversations()] == ["New"]
    store.create(title="Newer")
    assert {one.title for one in other.conversations()} == {"New", "Newer"}
    store.close()
    other.close()


def test_a_file_that_was_deleted_is_written_anew(copy: Path) -> None:
    store = ConversationStore.open(copy)
    for suffix in ("-wal", "-shm", ""):
        Path(f"{copy}{suffix}").unlink()
    store.create(title="Later")
    store.close()
    again = ConversationStore.open(copy)
    assert len(again.conversations()) == 6
    again.close()


def test_two_stores_meet_damage_at_once(copy: Path) -> None:
    first, second = ConversationStore.open(copy), ConversationStore.open(copy)
    fill(first, 1)
    data = bytearray(copy.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    copy.write_bytes(data)
    for store in (first, second):
        store.check()
        use(store)
    assert len(broken(copy)) == 1
    titles = [one.title for one in second.conversations()]
    assert titles.count("After") == 2
    first.close()
    second.close()


def test_opening_does_not_wait_for_the_look_at_the_whole_file() -> None:
    code = "import sys; import localllm.conversations; print(*sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"psutil", "filelock", "numpy", "jinja2", "httpx"} & set(modules)
