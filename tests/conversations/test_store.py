"""Conversations, their messages, branches and drafts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from localllm.chat.messages import FunctionCall, ToolCall, parse_messages
from localllm.conversations import Conversation, ConversationStore, rows
from localllm.errors import RequestError

CALL = ToolCall(FunctionCall("add", '{"a": 1}'), id="call_1")


def asked(store: ConversationStore) -> tuple[Conversation, int]:
    """Return a conversation with a question."""
    conversation = store.create(title="Bread", model="tiny", system="Be brief.", options={"temperature": 0.5})
    return conversation, store.add(conversation.id, None, "user", "How is bread made?").id


def test_what_was_kept_is_there_after_opening_again(file: Path) -> None:
    store = ConversationStore.open(file)
    conversation, question = asked(store)
    store.add(conversation.id, question, "assistant", "Of flour.", model="tiny", reasoning="Hm.", facts={"n": 1})
    before = store.conversation(conversation.id), store.path(conversation.id)
    store.close()
    again = ConversationStore.open(file)
    assert (again.conversation(conversation.id), again.path(conversation.id)) == before
    assert again.notice is None and again.is_writable
    again.close()
    assert file.stat().st_mode & 0o077 == 0


def test_the_fields_of_a_conversation_change(store: ConversationStore) -> None:
    conversation = store.create()
    changed = store.change(conversation.id, title="New", options={"seed": 1}, is_pinned=True, draft="so")
    assert (changed.title, changed.options, changed.is_pinned, changed.draft) == ("New", {"seed": 1}, True, "so")
    assert changed.updated_s == conversation.updated_s
    with pytest.raises(RequestError, match="has no colour"):
        store.change(conversation.id, colour="red")
    with pytest.raises(RequestError, match="no conversation 77"):
        store.change(77, title="x")


def test_pinned_ones_come_first_then_the_latest(store: ConversationStore) -> None:
    first, second, third, fourth = (store.create(title=name) for name in "abcd")
    store.change(second.id, is_pinned=True)
    store.change(fourth.id, is_archived=True)
    store.add(first.id, None, "user", "Hi")
    assert [one.title for one in store.conversations()] == ["b", "a", "c"]
    assert [one.id for one in store.conversations(with_archived=True, limit=3)] == [second.id, first.id, fourth.id]
    assert third.n_messages == 0 and store.conversation(first.id).n_messages == 1


def test_pieces_are_seen_at_once_and_a_finished_message_has_all(store: ConversationStore) -> None:
    conversation, question = asked(store)
    answer = store.add(conversation.id, question, "assistant", state="writing")
    store.append(answer.id, reasoning="Hm. ")
    store.append(answer.id, text="Of ")
    store.append(answer.id, text="flour")
    shown = store.path(conversation.id)[-1]
    assert (shown.text, shown.reasoning, shown.state) == ("Of flour", "Hm. ", "writing")
    done = store.finish(answer.id, state="length", tool_calls=(CALL,), facts={"n_tokens": 3})
    assert (done.text, done.state, done.tool_calls, done.facts) == ("Of flour", "length", (CALL,), {"n_tokens": 3})
    assert store.finish(answer.id, state="done", text="All.").text == "All."
    assert store.conversation(conversation.id).updated_s >= done.created_s


def test_pieces_reach_the_file_while_nothing_else_happens(store: ConversationStore, file: Path) -> None:
    conversation, question = asked(store)
    answer = store.add(conversation.id, question, "assistant", state="writing")
    other = ConversationStore.open(file)
    store.append(answer.id, text="Of flour")
    store.save_draft(conversation.id, "And then?")
    deadline_s = time.monotonic() + 5
    while other.node(answer.id).text != "Of flour" or other.conversation(conversation.id).draft != "And then?":
        assert time.monotonic() < deadline_s, "nothing was written"
        time.sleep(0.02)
    other.close()


def test_branches(store: ConversationStore) -> None:
    conversation, question = asked(store)
    first = store.add(conversation.id, question, "assistant", "Of flour.")
    follow = store.add(conversation.id, first.id, "user", "And water?")
    second = store.add(conversation.id, question, "assistant", "Of rye.")
    assert (second.n_siblings, second.sibling_index) == (2, 1)
    assert [node.id for node in store.path(conversation.id)] == [question, second.id]
    assert [node.id for node in store.choose(conversation.id, first.id)] == [question, first.id, follow.id]
    assert store.conversation(conversation.id).leaf_id == follow.id
    assert [node.id for node in store.path(conversation.id, second.id)] == [question, second.id]
    assert [(node.id, node.sibling_index) for node in store.siblings(first.id)] == [(first.id, 0), (second.id, 1)]
    assert [node.n_siblings for node in store.path(conversation.id)] == [1, 2, 1]
    assert len(store.all_nodes(conversation.id)) == 4


def test_what_does_not_belong_together_is_refused(store: ConversationStore) -> None:
    conversation, question = asked(store)
    other = store.create()
    for wrong in (
        lambda: store.add(other.id, question, "user"),
        lambda: store.add(99, None, "user"),
        lambda: store.add(conversation.id, 99, "user"),
        lambda: store.add(conversation.id, None, "system"),  # type: ignore[arg-type]
        lambda: store.choose(other.id, question),
        lambda: store.change(other.id, leaf_id=question),
        lambda: store.path(conversation.id, 99),
        lambda: store.finish(99, state="done"),
        lambda: store.finish(question, state="over"),  # type: ignore[arg-type]
        lambda: store.siblings(99),
        lambda: store.restore(99),
    ):
        with pytest.raises(RequestError):
            wrong()
    assert store.conversation(other.id).n_messages == 0 and store.conversation(conversation.id).n_messages == 1


def test_messages_are_as_a_model_takes_them(store: ConversationStore) -> None:
    conversation, question = asked(store)
    call = store.add(conversation.id, question, "assistant", reasoning="Hm.", tool_calls=(CALL,))
    result = store.add(conversation.id, call.id, "tool", "2", tool_call_id="call_1")
    store.add(conversation.id, result.id, "assistant", state="writing")
    messages = store.messages(conversation.id)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]
    parsed = parse_messages(messages)
    assert parsed[2].tool_calls == (CALL,) and parsed[2].reasoning == "Hm." and parsed[3].tool_call_id == "call_1"


def test_a_deletion_is_undone_until_the_store_is_closed(file: Path) -> None:
    store = ConversationStore.open(file)
    conversation, _ = asked(store)
    store.delete(conversation.id)
    assert store.conversations() == [] and store.search("bread") == []
    with pytest.raises(RequestError):
        store.path(conversation.id)
    assert store.restore(conversation.id).title == "Bread"
    assert len(store.search("bread")) == 2
    store.delete(conversation.id)
    store.close()
    again = ConversationStore.open(file)
    with pytest.raises(RequestError):
        again.restore(conversation.id)
    again.close()


def test_what_was_deleted_before_a_crash_goes_a_day_later(file: Path) -> None:
    store = ConversationStore.open(file)
    old, young = asked(store)[0], asked(store)[0]
    day_s = 86400
    for one, deleted_s in ((old, time.time() - 2 * day_s), (young, time.time() - day_s / 2)):
        store.insert(lambda db, o=one, s=deleted_s: rows.set_deleted(db, o.id, s) or [])  # type: ignore[misc]
    store.close()
    again = ConversationStore.open(file)
    assert again.restore(young.id).title == "Bread"
    with pytest.raises(RequestError):
        again.restore(old.id)
    again.close()


def test_purging_a_long_conversation(store: ConversationStore) -> None:
    conversation = long_conversation(store, 3000)
    store.delete(conversation.id)
    assert store.purge() == 1 and store.conversations() == []


def test_any_text_can_be_kept(store: ConversationStore) -> None:
    conversation = store.create(title="half \ud83d of a character", system="\0")
    node = store.add(conversation.id, None, "user", "a\0b\x1b[31m \U0001f600 שלום \udc00")
    assert node.text == "a\ufffdb\x1b[31m \U0001f600 שלום \ufffd"
    store.append(node.id, text="\ud800")
    assert store.node(node.id).text.endswith("\ufffd")


def test_saved_prompts(store: ConversationStore) -> None:
    store.save_prompt("review", "Review this.", ("code",))
    store.save_prompt("Explain", "Explain this.")
    changed = store.save_prompt(" review ", "Review it.", ("code", "work"))
    assert [(one.name, one.text, one.tags) for one in store.prompts()] == [
        ("Explain", "Explain this.", ()),
        ("review", "Review it.", ("code", "work")),
    ]
    store.delete_prompt(changed.id)
    assert [one.name for one in store.prompts()] == ["Explain"]
    with pytest.raises(RequestError, match="needs a name"):
        store.save_prompt("  ", "x")


def test_closing_marks_what_is_being_written_here(file: Path) -> None:
    store = ConversationStore.open(file)
    conversation, question = asked(store)
    answer = store.add(conversation.id, question, "assistant", state="writing")
    store.append(answer.id, text="Of")
    store.close()
    store.close()
    store.append(answer.id, text=" flour")
    with pytest.raises(RequestError, match="closed"):
        store.conversations()
    again = ConversationStore.open(file)
    assert (again.node(answer.id).state, again.node(answer.id).text) == ("interrupted", "Of")
    again.close()


def test_threads_share_a_store(store: ConversationStore) -> None:
    conversation, question = asked(store)
    answers = [store.add(conversation.id, question, "assistant", state="writing") for _ in range(4)]

    def write(node_id: int) -> None:
        for n in range(200):
            store.append(node_id, text=f"{n} ")
            if n % 50 == 0:
                store.path(conversation.id)

    threads = [threading.Thread(target=write, args=(answer.id,)) for answer in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = "".join(f"{n} " for n in range(200))
    assert [store.finish(answer.id, state="done").text for answer in answers] == [whole] * 4


def test_the_newest_message_is_shown_where_the_leaf_is_unknown(store: ConversationStore) -> None:
    conversation, question = asked(store)
    store.add(conversation.id, question, "assistant", "Of flour.")
    store.change(conversation.id, leaf_id=None)
    assert [node.text for node in store.path(conversation.id)] == ["How is bread made?", "Of flour."]


def long_conversation(store: ConversationStore, n_messages: int) -> Conversation:
    """Return a conversation of many messages, one below the other."""
    conversation = store.create(title="Long")

    def work(db: object) -> list[int]:
        parent_id = None
        for n in range(n_messages):
            values = {"parent_id": parent_id, "role": "user", "text": f"Message {n}. " * 20}
            parent_id = rows.add(db, conversation.id, values).id  # type: ignore[arg-type]
        return [conversation.id]

    return store.insert(work)[0]


def test_a_long_conversation_opens(store: ConversationStore) -> None:
    conversation = long_conversation(store, 5000)
    path = store.path(conversation.id)
    assert len(path) == conversation.n_messages == 5000
    assert [node.id for node in path] == sorted(node.id for node in path)


def test_a_removed_message_leaves_its_parent_as_the_leaf(store: ConversationStore) -> None:
    conversation = store.create()
    question = store.add(conversation.id, None, "user", "Hi")
    answer = store.add(conversation.id, question.id, "assistant", "Hello", state="writing")
    with pytest.raises(RequestError, match="follows"):
        store.remove(question.id)
    store.remove(answer.id)
    assert [node.id for node in store.path(conversation.id)] == [question.id]
    assert store.conversation(conversation.id).n_messages == 1
    with pytest.raises(RequestError):
        store.remove(answer.id)
