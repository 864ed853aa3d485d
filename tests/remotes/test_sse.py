"""Events come out the same however their bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.remotes.sse import MAX_EVENT_BYTES, EventTooLong, SseParser

STREAM = b': hello\n\nevent: x\r\ndata: {"a": 1}\r\n\r\ndata:two\ndata: lines\n\nid: 5\n\ndata: \xc3\xa9\xff\n\n'
EVENTS = ['{"a": 1}', "two\nlines", "é\N{REPLACEMENT CHARACTER}"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_cuts_do_not_matter(cuts: list[int]) -> None:
    parser, found = SseParser(), []
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in pairwise(places):
        found += parser.feed(STREAM[start:end])
    assert [*found, *parser.flush()] == EVENTS


def test_the_end_of_the_stream_completes_an_event() -> None:
    parser = SseParser()
    assert list(parser.feed(b"data: last")) == []
    assert list(parser.flush()) == ["last"]


@pytest.mark.parametrize("piece", [b"x" * (1 << 20), b"data: y\n" * (1 << 17)])
def test_an_event_that_goes_on_and_on_is_cut_off(piece: bytes) -> None:
    parser = SseParser()

    def feed() -> None:
        for _ in range(2 + MAX_EVENT_BYTES // len(piece)):
            list(parser.feed(piece))

    with pytest.raises(EventTooLong, match="16 MiB"):
        feed()


def test_many_events_are_not_one_long_one() -> None:
    parser = SseParser()
    n_events = sum(len(list(parser.feed(b"data: " + b"x" * (1 << 20) + b"\n\n"))) for _ in range(20))
    assert n_events == 20
