"""Cutting growing Markdown into finished blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.chat.blocks import BlockSplitter

CASES = {
    "paragraphs": ("one\nstill\n\ntwo\n", ["one\nstill\n\n", "two\n"]),
    "fence with blank lines": ("```py\na\n\nb\n```\nafter\n", ["```py\na\n\nb\n```\n", "after\n"]),
    "fence ends a paragraph": ("text\n```\na\n```\n", ["text\n", "```\na\n```\n"]),
    "longer fence": ("````\n```\n````\nx\n", ["````\n```\n````\n", "x\n"]),
    "tilde fence": ("~~~\n```\n~~~\n", ["~~~\n```\n~~~\n"]),
    "unfinished fence": ("```\na\n\nb", ["```\na\n\nb"]),
    "loose list": ("1. a\n\n2. b\n\nafter\n", ["1. a\n\n2. b\n\n", "after\n"]),
    "list with code": ("- a\n\n  ```\n  x\n\n  y\n  ```\n- b\n", ["- a\n\n  ```\n  x\n\n  y\n  ```\n- b\n"]),
    "list with a paragraph": ("- a\n\n  more\n\nend\n", ["- a\n\n  more\n\n", "end\n"]),
    "blank lines first": ("\n\nx\n", ["x\n"]),
    "nothing": ("\n\n", []),
}


def cut(text: str, sizes: list[int]) -> list[str]:
    splitter = BlockSplitter()
    blocks: list[str] = []
    for size in sizes:
        blocks += splitter.feed(text[:size])
        text = text[size:]
    return [*blocks, *splitter.feed(text), *splitter.flush()]


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_the_same_however_the_text_arrives(name: str) -> None:
    text, blocks = CASES[name]
    assert cut(text, []) == blocks
    assert cut(text, [1] * len(text)) == blocks


@given(st.text("ab\n`-~1. ", max_size=60), st.lists(st.integers(0, 5), max_size=30))
def test_no_text_is_lost(text: str, sizes: list[int]) -> None:
    def visible(parts: str) -> list[str]:
        return [line for line in parts.split("\n") if line.strip()]

    assert visible("".join(f"{block}\n" for block in cut(text, sizes))) == visible(text)


def test_pending_is_the_block_that_may_change() -> None:
    splitter = BlockSplitter()
    assert splitter.feed("one\n\ntw") == []
    assert splitter.feed("o\n") == ["one\n\n"]
    assert splitter.pending == "two\n"
