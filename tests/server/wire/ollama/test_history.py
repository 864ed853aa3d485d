"""A conversation as numbers."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.server.errors import BadRequest
from localllm.server.wire.ollama.history import MAX_BYTES, pack, unpack

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}), min_size=1))
def test_a_conversation_comes_back(messages: list[dict[str, str]]) -> None:
    numbers = pack(messages)
    assert unpack(numbers) == messages
    assert all(0 <= number < 1 << 24 for number in numbers)


def test_no_numbers_are_no_conversation() -> None:
    assert unpack([]) == []


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1))
def test_other_numbers_are_refused(numbers: list[int]) -> None:
    with pytest.raises(BadRequest, match="context is not one"):
        unpack(numbers)


@given(st.data())
def test_changed_numbers_are_refused_or_a_conversation(data: st.DataObject) -> None:
    numbers = pack([{"role": "user", "content": "Why is the sky blue?"}])
    place = data.draw(st.integers(1, len(numbers) - 1))
    numbers[place] = data.draw(st.integers(0, (1 << 24) - 1))
    try:
        found = unpack(numbers)
    except BadRequest:
        return
    assert all(isinstance(message, dict) for message in found)


def test_numbers_that_unfold_to_gigabytes_are_refused_in_bounded_memory() -> None:
    data = zlib.compress(b'[{"role":"' + b"a" * (4 * MAX_BYTES) + b'"}]')
    data += b"\0" * (-len(data) % 3)
    bomb = [0x6C6C6D, len(data), *(int.from_bytes(data[i : i + 3], "big") for i in range(0, len(data), 3))]
    with pytest.raises(BadRequest):
        unpack(bomb)
