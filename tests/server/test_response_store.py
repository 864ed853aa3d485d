"""Which responses are kept, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.server.errors import Refused
from localllm.server.response_store import KeptResponse, ResponseStore


def item(item_id: str, n_chars: int = 1) -> dict[str, Any]:
    return {"id": item_id, "text": "x" * n_chars}


def keep(store: ResponseStore, name: str, previous: str | None = None, n_chars: int = 1) -> KeptResponse:
    """Keep a response "r" with the input "i_r" and the output "o_r"."""
    before = None if previous is None else store.find(previous)
    store.keep({"id": name, "output": [item(f"o_{name}", n_chars)]}, [item(f"i_{name}")], before)
    return store.find(name)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


def is_kept(store: ResponseStore, name: str) -> bool:
    return name in store._listed


def test_conversation_is_all_that_was_asked_and_answered() -> None:
    store = ResponseStore()
    keep(store, "a")
    keep(store, "b", "a")
    last = keep(store, "c", "b")
    assert ids(last.conversation) == ["i_a", "o_a", "i_b", "o_b", "i_c", "o_c"]
    assert ids(last.asked) == ["i_a", "o_a", "i_b", "o_b", "i_c"]


def test_two_responses_may_follow_one() -> None:
    store = ResponseStore()
    keep(store, "a")
    assert ids(keep(store, "b", "a").conversation)[-2:] == ["i_b", "o_b"]
    assert ids(keep(store, "c", "a").conversation) == ["i_a", "o_a", "i_c", "o_c"]


def test_least_recently_used_response_gives_way_to_a_newer_one() -> None:
    store = ResponseStore(max_responses=2)
    keep(store, "a")
    keep(store, "b")
    store.find("a")
    keep(store, "c")
    assert [name for name in "abc" if is_kept(store, name)] == ["a", "c"]


def test_bytes_are_bounded() -> None:
    store = ResponseStore(max_bytes=5000)
    for name in "abcdefgh":
        keep(store, name, n_chars=1000)
        assert store.n_bytes <= 5000
    assert [name for name in "abcdefgh" if is_kept(store, name)] == list("efgh")


def test_response_larger_than_the_store_is_not_kept() -> None:
    store = ResponseStore(max_bytes=500)
    store.keep({"id": "a", "output": [item("o", 1000)]}, [], None)
    assert (len(store), store.n_bytes) == (0, 0)


def test_deleted_response_lives_on_in_those_that_followed_it() -> None:
    store = ResponseStore()
    keep(store, "a")
    n_bytes = store.n_bytes
    keep(store, "b", "a")
    store.delete("a")
    with pytest.raises(Refused, match="not kept"):
        store.find("a")
    assert ids(store.find("b").conversation)[:2] == ["i_a", "o_a"]
    assert store.n_bytes == 2 * n_bytes
    store.delete("b")
    assert store.n_bytes == 0


def test_response_that_went_during_the_next_request_counts_again() -> None:
    store = ResponseStore()
    before = keep(store, "a")
    n_bytes = store.n_bytes
    store.delete("a")
    store.keep({"id": "b", "output": [item("o_b")]}, [item("i_b")], before)
    assert store.n_bytes == 2 * n_bytes
    assert ids(store.find("b").conversation) == ["i_a", "o_a", "i_b", "o_b"]


def test_items_are_found_as_long_as_their_response_is_needed() -> None:
    store = ResponseStore()
    keep(store, "a")
    keep(store, "b", "a")
    store.delete("a")
    assert store.find_item("o_a") == item("o_a")
    store.delete("b")
    assert store.find_item("o_a") is None


def test_unknown_previous_response_is_a_bad_request() -> None:
    with pytest.raises(Refused) as caught:
        ResponseStore().previous("nothing")
    assert (caught.value.status, caught.value.code) == (400, "previous_response_not_found")
    assert caught.value.param == "previous_response_id"


def test_long_conversation_is_kept_and_forgotten() -> None:
    store = ResponseStore(max_responses=3)
    keep(store, "0")
    for number in range(1, 3000):
        keep(store, str(number), str(number - 1))
    assert len(store.find("2999").conversation) == 6000
    for name in list(store._listed):
        store.delete(name)
    assert store.n_bytes == 0
