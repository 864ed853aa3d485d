"""Files that conversations go to and come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.conversations import Conversation, ConversationStore, Node
from localllm.conversations.export import export_file, to_json, to_markdown, to_messages
from localllm.conversations.importing import import_file
from localllm.errors import RequestError

CALL = ToolCall(FunctionCall("look_up", '{"word": "a --> b"}'), id="call_1")


@pytest.fixture
def talk(store: ConversationStore) -> Conversation:
    """A conversation that has everything."""
    made = store.create(title="Bread & <b>butter</b>", model="tiny", system="Be brief.\n", options={"seed": 1})
    question = store.add(made.id, None, "user", "## You\n\n<!-- localllm:message {} -->\n\\<!-- localllm:x -->\n\n")
    other = store.add(made.id, question.id, "assistant", "Another branch.", model="tiny")
    store.add(made.id, other.id, "user", "Go on there.")
    call = store.add(made.id, question.id, "assistant", reasoning="Hm.\n", tool_calls=(CALL,), model="ti-->ny")
    result = store.add(made.id, call.id, "tool", "\n  42", tool_call_id="call_1")
    store.add(made.id, result.id, "assistant", "It is 42.", state="length", facts={"n": 3}, error="odd")
    return store.change(made.id, draft="and now", is_pinned=True)


def alike(node: Node) -> Node:
    """Return a message without what an import makes anew."""
    return replace(node, id=0, conversation_id=0, parent_id=None)


def shape(nodes: list[Node]) -> list[int | None]:
    """Return each message's parent, as a place in the list."""
    places = {node.id: n for n, node in enumerate(nodes)}
    return [None if node.parent_id is None else places[node.parent_id] for node in nodes]


def written(tmp_path: Path, name: str, content: Any) -> Path:
    """Write a file; what is not text as JSON."""
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return file


def test_json_comes_back_with_all_branches(store: ConversationStore, talk: Conversation, tmp_path: Path) -> None:
    (copy,) = import_file(store, written(tmp_path, "a.json", to_json(store, talk.id)))
    old, new = store.all_nodes(talk.id), store.all_nodes(copy.id)
    assert list(map(alike, old)) == list(map(alike, new)) and shape(old) == shape(new)
    assert replace(copy, id=talk.id, leaf_id=talk.leaf_id) == talk
    assert [node.text for node in store.path(copy.id)] == [node.text for node in store.path(talk.id)]


def test_markdown_comes_back_with_what_is_shown(store: ConversationStore, talk: Conversation, tmp_path: Path) -> None:
    (copy,) = import_file(store, written(tmp_path, "a.md", to_markdown(store, talk.id)))
    old = [replace(alike(n), facts={}, error=None, n_siblings=1, sibling_index=0) for n in store.path(talk.id)]
    assert list(map(alike, store.path(copy.id))) == old
    assert (copy.title, copy.system, copy.options, copy.model) == (talk.title, talk.system, talk.options, talk.model)


def test_markdown_is_for_people_to_read(store: ConversationStore, talk: Conversation) -> None:
    shown = [line for line in to_markdown(store, talk.id).splitlines() if not line.startswith("<!--")]
    text = "\n".join(shown)
    assert text.startswith("# Bread & <b>butter</b>\n") and "## Assistant (ti-->ny)\n" in text
    assert "<details><summary>Thinking</summary>\n\nHm.\n" in text and "It is 42." in text


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(st.characters() | st.sampled_from("\n\r\\<!-> "), max_size=30), min_size=1, max_size=4))
def test_any_text_survives_markdown(store: ConversationStore, tmp_path: Path, texts: list[str]) -> None:
    talk, parent = store.create(title=texts[0], system=texts[-1] or None), None
    for text in texts:
        parent = store.add(talk.id, parent, "assistant", text, reasoning=text[::-1]).id
    export_file(store, talk.id, tmp_path / "a.md", overwrite=True)
    (copy,) = import_file(store, tmp_path / "a.md")
    assert [(n.text, n.reasoning) for n in store.path(copy.id)] == [(n.text, n.reasoning) for n in store.path(talk.id)]
    assert copy.system == talk.system


def test_messages_as_apis_take_them(store: ConversationStore, talk: Conversation, tmp_path: Path) -> None:
    file = written(tmp_path, "m.json", to_messages(store, talk.id))
    assert [message["role"] for message in json.loads(file.read_text())["messages"]][:2] == ["system", "user"]
    (copy,) = import_file(store, file)
    assert store.messages(copy.id) == store.messages(talk.id)
    parts = [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    (bare,) = import_file(store, written(tmp_path, "l.json", [{"role": "user", "content": parts}]))
    assert bare.title == "See" and store.path(bare.id)[0].text == "See\n[image]"


def test_an_export_does_not_overwrite_unasked(store: ConversationStore, talk: Conversation, tmp_path: Path) -> None:
    file = written(tmp_path, "a.json", "mine")
    with pytest.raises(RequestError, match="exists"):
        export_file(store, talk.id, file)
    assert file.read_text() == "mine"
    export_file(store, talk.id, file, overwrite=True)
    assert json.loads(file.read_text())["format"] == "localllm.conversation"
    with pytest.raises(RequestError, match="Cannot write"):
        export_file(store, talk.id, tmp_path / "no" / "a.md")
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == ["a.json"]


def chatgpt(**changes: Any) -> dict[str, Any]:
    """Return a conversation as ChatGPT exports it."""

    def node(parent: str | None, *children: str, **message: Any) -> dict[str, Any]:
        return {"parent": parent, "children": list(children), "message": message or None}

    def text(*parts: Any, kind: str = "text") -> dict[str, Any]:
        return {"content_type": kind, "parts": list(parts)}

    user, assistant = {"role": "user"}, {"role": "assistant"}
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "sediment://x"}
    mapping = {
        "again": node("q", author=assistant, content=text("Second try."), metadata={"model_slug": "gpt-5"}),
        "root": node(None, "sys"),
        "sys": node("root", "q", author={"role": "system"}, content=text("")),
        "q": node("sys", "thought", "again", author=user, content=text("Draw it", picture), create_time=100.5),
        "thought": node(
            "q", "call", author=assistant, content={"content_type": "thoughts", "thoughts": [{"content": "Hm."}]}
        ),
        "call": node(
            "thought", "tool", author=assistant, recipient="python", content={"content_type": "code", "text": "1 + 1"}
        ),
        "tool": node(
            "call", "end", author={"role": "tool", "name": "python"}, content={"content_type": "x", "text": "2"}
        ),
        "end": node("tool", author=assistant, content=text("It is 2\ue200cite\ue202turn0\ue201."), create_time=None),
    }
    return {"title": "Drawing", "create_time": 99.0, "current_node": "end", "mapping": mapping, **changes}


def test_chatgpts_export(store: ConversationStore, tmp_path: Path) -> None:
    file = written(tmp_path, "conversations.json", [chatgpt(), chatgpt(title="Two", current_node="again")])
    first, second = import_file(store, file)
    path = store.path(first.id)
    assert [node.role for node in path] == ["user", "assistant", "assistant", "assistant", "assistant"]
    assert (path[0].text, path[0].created_s) == ("Draw it\n\n[image]", 100.5)
    assert path[1].reasoning == "Hm." and path[1].n_siblings == 2 and path[1].sibling_index == 0
    assert path[2].text == "*To python:*\n\n    1 + 1" and path[3].text == "*From python:*\n\n    2"
    assert path[4].text == "It is 2."
    assert (first.title, first.created_s, first.model) == ("Drawing", 99.0, "gpt-5")
    assert [node.text for node in store.path(second.id)] == ["Draw it\n\n[image]", "Second try."]
    assert len(store.search('"second try"')) == 2


OURS = {"format": "localllm.conversation", "version": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no conversation"),
        ("# Some Markdown", "no conversation"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", r"\[0\] is not a conversation"),
        ("{}", "not a conversation"),
        ([chatgpt(), {"mapping": []}], r"\[1\].mapping is not an object"),
        ([chatgpt(), chatgpt(mapping={"a": {"parent": "b"}, "b": {"parent": "a"}})], "in a circle"),
        ([chatgpt(mapping={"a": {"message": {"author": "x"}}})], "has no author"),
        ([chatgpt(mapping={"a": {"message": {"author": {"role": "user"}}}})], "has no content"),
        ({"messages": [{"role": "judge", "content": "x"}]}, r"messages\[0\]\.role"),
        ({"messages": 3}, "must be a list"),
        ({**OURS, "version": 9}, "later version"),
        (OURS, "nodes"),
        ({**OURS, "nodes": [{"id": 1, "role": "user", "parent_id": 1}]}, r"nodes\[0\]"),
        ({**OURS, "nodes": [{"id": 1, "role": "user"}, {"id": 1, "role": "user"}]}, r"nodes\[1\]"),
        ({**OURS, "nodes": [{"id": 1, "role": "judge"}]}, r"nodes\[0\]\.role"),
        ("<!-- localllm:conversation {} -->\n<!-- localllm:message {\"role\": 1} -->\n", "Line 2"),
        ("<!-- localllm:conversation {} -->\n<!-- localllm:text -->\n\n\nhi\n", "Line 2"),
        ('<!-- localllm:conversation {"version": 9} -->\n', "later version"),
        ("PK\x03\x04", "archive"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_whole(store: ConversationStore, tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        import_file(store, written(tmp_path, "bad.json", content))
    assert caught.value.hint
    assert store.conversations() == []


def test_an_import_that_fails_in_the_middle_leaves_nothing(
    store: ConversationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localllm.conversations import drafts

    insert, calls = drafts.rows.insert_node, []

    def fails_late(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) > 8:
            raise RequestError("Enough.")
        return insert(*arguments)

    monkeypatch.setattr(drafts.rows, "insert_node", fails_late)
    with pytest.raises(RequestError, match="Enough"):
        import_file(store, written(tmp_path, "conversations.json", [chatgpt(), chatgpt()]))
    assert store.conversations() == [] and store.search("try") == []
