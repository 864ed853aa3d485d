from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.chat.stops import StopFilter, StopScanner
from localllm.errors import RequestError

_STOPS = st.lists(st.text("abé", min_size=1, max_size=4), max_size=4)
_DELTAS = st.lists(st.text("abé", max_size=4), max_size=12)


def _oracle(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Cut at the first completed stop; of those completed together, at the one that began first."""
    for end in range(len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            stop = max(ending, key=len)
            return text[: end - len(stop)], stop
    return text, None


@given(_DELTAS, _STOPS)
def test_filter_equals_brute_force(deltas: list[str], stops: list[str]) -> None:
    stop_filter = StopFilter(stops)
    shown = "".join(stop_filter.feed(delta) for delta in deltas) + stop_filter.flush()
    assert (shown, stop_filter.matched) == _oracle("".join(deltas), stops)


@given(_DELTAS, _STOPS)
def test_filter_holds_back_nothing_that_cannot_begin_a_stop(deltas: list[str], stops: list[str]) -> None:
    stop_filter = StopFilter(stops)
    shown = seen = ""
    for delta in deltas:
        seen += delta
        shown += stop_filter.feed(delta)
        if stop_filter.matched is None:
            held = seen[len(shown) :]
            assert held == "" or any(stop.startswith(held) for stop in stops)


@given(st.text("abé", max_size=20), _STOPS, st.lists(st.integers(0, 40), max_size=8))
def test_scanner_equals_brute_force_for_any_split(text: str, stops: list[str], cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    scanner = StopScanner(stops)
    for a, b in pairwise(edges):
        found = scanner.feed(data[a:b])
        assert found == any(stop.encode() in data[:b] for stop in stops)


def test_stop_string_split_over_tokens_is_never_emitted() -> None:
    stop_filter = StopFilter(["<|end|>"])
    shown = [stop_filter.feed(delta) for delta in ["Hi", " <", "|e", "nd|", "> more"]]
    assert shown == ["Hi", " ", "", "", ""]
    assert stop_filter.matched == "<|end|>"
    assert stop_filter.flush() == ""


def test_held_text_is_released_when_it_was_no_stop() -> None:
    stop_filter = StopFilter(["<end>"])
    assert stop_filter.feed("a<en") == "a"
    assert stop_filter.feed("x") == "<enx"
    assert stop_filter.feed("<e") == ""
    assert stop_filter.flush() == "<e"


def test_no_stops_let_everything_through() -> None:
    assert StopFilter([]).feed("text") == "text"
    assert StopScanner([]).feed(b"text") is False


@pytest.mark.parametrize("stops", [[""], ["x" * 5000], [str(n) for n in range(100)]])
def test_unusable_stops_are_refused(stops: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        StopScanner(stops)
    assert caught.value.hint
    with pytest.raises(RequestError):
        StopFilter(stops)


def test_scanner_costs_microseconds_per_token() -> None:
    scanner = StopScanner(["<|im_end|>", "\n\nUser:", "</s>"])
    started = time.thread_time()
    for _ in range(10_000):
        scanner.feed(b" token")
    assert (time.thread_time() - started) / 10_000 < 20e-6
