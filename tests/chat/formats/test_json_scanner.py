from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.chat.formats.json_scanner import JsonScanner
from tests.chat.formats.streaming import pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def _scan(parts: list[str]) -> tuple[int, JsonScanner]:
    scanner, n = JsonScanner(), 0
    for part in parts:
        n += scanner.feed(part)
    return n, scanner


@given(value=VALUES, indent=st.sampled_from([None, 2]), ascii_=st.booleans(), cuts=st.lists(st.integers(0, 500)))
def test_every_json_text_is_taken_whole_however_it_is_cut(
    value: object, indent: int | None, ascii_: bool, cuts: list[int]
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    n, scanner = _scan(pieces(text, cuts))
    assert n == len(text) and scanner.finish()


@given(text=st.text(alphabet='{}[]",:\\ \n0123456789.-+eEtrufalsn', max_size=12))
def test_what_it_takes_whole_is_json(text: str) -> None:
    n, scanner = _scan([text])
    is_taken = scanner.finish() and not scanner.failed and not text[n:].strip()
    try:
        json.loads(text)
        is_json = True
    except ValueError:
        is_json = False
    assert is_taken == is_json


@pytest.mark.parametrize(("text", "n"), [('{"a": 1} rest', 8), ('"x"y', 3), ("[1, 2]]", 6), ("12 3", 2)])
def test_it_stops_at_the_end_of_the_value(text: str, n: int) -> None:
    taken, scanner = _scan([text])
    assert taken == n and scanner.done


@pytest.mark.parametrize(
    "text", ["{a", '{"a" 1', "[1,]", '{"a": 1,}', '"\n"', '"\\x', '"\\u12g', "tru,", "01,", "1.e,", "[" * 300]
)
def test_it_fails_at_what_no_json_has(text: str) -> None:
    taken, scanner = _scan([text])
    assert scanner.failed and not scanner.done and taken < len(text)
