"""Processes that are killed, and processes that share a file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from localllm.conversations import ConversationStore

WRITER = """
import sys, time
from pathlib import Path
from localllm.conversations import ConversationStore

store = ConversationStore.open(Path(sys.argv[1]))
conversation = store.create(title="Killed")
question = store.add(conversation.id, None, "user", "Count.")
answer = store.add(conversation.id, question.id, "assistant", state="writing")
n = 0
while True:
    store.append(answer.id, text=f"{n} ")
    store.save_draft(conversation.id, f"draft {n}")
    print(n, time.monotonic(), flush=True)
    n += 1
    time.sleep(0.005)
"""

SHARER = """
import sys
from pathlib import Path
from localllm.conversations import ConversationStore

store = ConversationStore.open(Path(sys.argv[1]))
for k in range(5):
    conversation = store.create(title=sys.argv[2])
    parent = None
    for m in range(20):
        node = store.add(conversation.id, parent, "assistant", state="writing")
        store.append(node.id, text=f"{m}")
        parent = store.finish(node.id, state="done").id
print(store.notice, store.is_writable)
store.close()
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program in Python."""
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def until(holds: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Wait for something."""
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def killed_while_writing(file: Path, n_pieces: int) -> tuple[list[tuple[int, float]], float]:
    """Kill a writer; return what it appended and when, and when it was killed."""
    child = start(WRITER, str(file))
    assert child.stdout is not None
    seen = [child.stdout.readline() for _ in range(n_pieces)]
    killed_s = time.monotonic()
    child.kill()
    seen += child.stdout.readlines()
    child.wait()
    pieces = [line.split() for line in seen if line.endswith("\n")]
    return [(int(n), float(at_s)) for n, at_s in pieces], killed_s


def test_kill_9_loses_nothing_older_than_a_second(file: Path) -> None:
    pieces, killed_s = killed_while_writing(file, 300)
    store = ConversationStore.open(file)
    assert store.notice is None
    (conversation,) = store.conversations()
    answer = store.path(conversation.id)[-1]
    assert answer.state == "interrupted"
    kept = [int(n) for n in answer.text.split()]
    assert kept == list(range(len(kept)))
    due = [n for n, at_s in pieces if at_s < killed_s - 1.0]
    assert len(due) > 20 and kept[-1] >= due[-1]
    assert int(conversation.draft.split()[1]) >= due[-1]
    assert len(store.search(f'"{due[-1]}"')) == 1
    resumed = store.finish(answer.id, state="done")
    assert resumed.text == answer.text
    store.close()


def test_what_another_living_process_writes_is_left_alone(file: Path) -> None:
    child = start(WRITER, str(file))
    assert child.stdout is not None
    child.stdout.readline()
    first = ConversationStore.open(file)
    (conversation,) = first.conversations()
    answer = first.path(conversation.id)[-1]
    assert answer.state == "writing"
    until(lambda: len(first.node(answer.id).text) > 20)
    child.kill()
    child.wait()
    assert first.node(answer.id).state == "writing"
    second = ConversationStore.open(file)
    assert second.node(answer.id).state == first.node(answer.id).state == "interrupted"
    first.close()
    second.close()


def test_processes_share_a_file_from_its_beginning(file: Path) -> None:
    children = [start(SHARER, str(file), name) for name in ("a", "b", "c")]
    assert [child.communicate()[0] for child in children] == ["None True\n"] * 3
    store = ConversationStore.open(file)
    found = store.conversations()
    assert sorted(one.title for one in found) == sorted("abc" * 5)
    for one in found:
        assert [node.text for node in store.path(one.id)] == [str(m) for m in range(20)]
    assert not list(file.parent.glob("*.broken-*"))
    store.close()


def test_processes_meet_a_damaged_file_at_once(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"garbage " * 4096)
    children = [start(SHARER, str(file), name) for name in ("a", "b", "c")]
    notices = [child.communicate()[0] for child in children]
    assert all(notice.endswith(" True\n") for notice in notices)
    store = ConversationStore.open(file)
    assert len(store.conversations()) == 15
    assert len(list(file.parent.glob("*.broken-*"))) == 1
    store.close()
