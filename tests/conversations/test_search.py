"""What a search finds, and that it finds something for whatever is typed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localllm.conversations import ConversationStore, Hit
from localllm.conversations.search import parse

TEXTS = (
    "Sourdough needs flour, water and salt.",
    "Die Bäckerei hat heute Brötchen.",
    "我喜欢吃面包和奶酪。",
    "def add(a, b): return a + b  # foo_bar => 100%",
    "Le pain est déjà cuit, the bread is baked.",
    "한국어를 공부합니다",
)


@pytest.fixture
def filled(store: ConversationStore) -> ConversationStore:
    """A store with some texts in one conversation."""
    conversation = store.create(title="Bread and cheese")
    for text in TEXTS:
        store.add(conversation.id, None, "user", text)
    return store


def found(hits: list[Hit]) -> list[str]:
    """Return what is marked in each."""
    return ["|".join(hit.snippet[start:end] for start, end in hit.spans) for hit in hits]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sourdough", ["Sourdough"]),
        ("salt FLOUR", ["flour|salt"]),
        ("sourd", ["Sourdough"]),
        ("sourd flour", []),
        ("backerei brotchen", ["Bäckerei|Brötchen"]),
        ('"flour water"', ["flour, water"]),
        ('"water flour"', []),
        ("bread", ["Bread", "bread"]),
        ("面包", ["面包"]),
        ("奶", ["奶"]),
        ("국", ["국"]),
        ("=>", ["=>"]),
        ("100%", ["100"]),
        ("%", ["%"]),
        ("foo_bar", ["foo_bar"]),
        ("", []),
        ("   ", []),
        ('"', []),
        ("AND", ["and", "and"]),
    ],
)
def test_queries(filled: ConversationStore, query: str, expected: list[str]) -> None:
    assert sorted(found(filled.search(query))) == sorted(expected)


def test_a_hit_leads_to_its_message(filled: ConversationStore) -> None:
    hit = filled.search("salt")[0]
    assert hit.node_id is not None and filled.node(hit.node_id).text == TEXTS[0]
    assert (hit.title, hit.role) == ("Bread and cheese", "user")
    title = filled.search("cheese")[0]
    assert (title.node_id, title.role, title.snippet) == (None, None, "Bread and cheese")


def test_a_message_is_found_when_it_is_finished_and_as_it_is_then(store: ConversationStore) -> None:
    conversation = store.create()
    node = store.add(conversation.id, None, "assistant", state="writing")
    store.append(node.id, text="yeast")
    assert store.search("yeast") == []
    store.finish(node.id, state="done")
    assert len(store.search("yeast")) == 1
    store.finish(node.id, state="done", text="baking powder")
    assert store.search("yeast") == [] and len(store.search("powder")) == 1
    store.append(node.id, text=" and soda")
    assert len(store.search("soda powder")) == 1
    store.change(conversation.id, title="Rising")
    store.change(conversation.id, title="Falling")
    assert store.search("rising") == [] and len(store.search("falling")) == 1


def test_newer_messages_come_before_equals(store: ConversationStore) -> None:
    conversation = store.create()
    ids = [store.add(conversation.id, None, "user", "the same words").id for _ in range(3)]
    store.insert(lambda db: db.execute("UPDATE nodes SET created_s = created_s - 9e6 * (4 - id)") and [])
    assert [hit.node_id for hit in store.search("same")] == ids[::-1]
    assert len(store.search("same", limit=2)) == 2


def test_a_snippet_is_one_short_line(store: ConversationStore) -> None:
    conversation = store.create()
    store.add(conversation.id, None, "user", "x" * 5000 + "\n\n needle \t in\n a " + "haystack " * 500)
    store.add(conversation.id, None, "user", "面" * 3000 + "针" + "面" * 3000)
    for query, marked in (("needle", "needle"), ("针", "针")):
        hit = store.search(query)[0]
        assert len(hit.snippet) <= 200 and "\n" not in hit.snippet and found([hit]) == [marked]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters() | st.sampled_from("\"'()*:^+-{}[]~ \0ANDORTE面"), max_size=40))
def test_no_query_is_an_error(filled: ConversationStore, query: str) -> None:
    for hit in filled.search(query):
        assert all(0 <= start < end <= len(hit.snippet) for start, end in hit.spans)


def test_a_query_of_many_terms_is_cut() -> None:
    assert (parse("a " * 1000).match or "").count('"') == 64
