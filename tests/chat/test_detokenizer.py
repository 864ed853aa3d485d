from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from localllm.chat.detokenizer import Utf8Stream

_FRAGMENTS = st.sampled_from([b"a", "é".encode(), "€".encode(), "😀".encode(), b"\xff", b"\xe2\x82", b"\xf0", b"\x80"])
_BYTES = st.one_of(st.binary(max_size=40), st.lists(_FRAGMENTS, max_size=12).map(b"".join))


@given(_BYTES, st.lists(st.integers(0, 60), max_size=10))
def test_any_split_decodes_like_the_whole(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = Utf8Stream()
    text = "".join(stream.feed(data[a:b]) for a, b in pairwise(edges)) + stream.flush()
    assert text == data.decode("utf-8", "replace")


def test_half_a_character_is_never_emitted() -> None:
    stream = Utf8Stream()
    emitted = [stream.feed(bytes([byte])) for byte in "a😀b".encode()]
    assert emitted == ["a", "", "", "", "😀", "b"]


def test_unfinished_character_becomes_replacement_at_flush() -> None:
    stream = Utf8Stream()
    assert stream.feed(b"x\xe2\x82") == "x"
    assert stream.flush() == "\ufffd"


def test_stream_is_fresh_after_flush() -> None:
    stream = Utf8Stream()
    stream.feed(b"\xe2")
    stream.flush()
    assert stream.feed("€".encode()) == "€"
