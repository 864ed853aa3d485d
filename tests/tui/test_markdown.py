"""Markdown as lines: the same at once or in pieces, quick while it grows, and never wider than asked."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tui.transcripts import MARKDOWN
from tui.markdown import Document


def plain(document: Document, width: int = 76) -> list[str]:
    return [line.content.plain.rstrip() for line in document.lines(width)]


def test_every_kind_of_block_is_shown() -> None:
    assert "\n".join(plain(Document(MARKDOWN + "\n---\n\nA  \nB ~~no~~ ![cat](c.png)\n"), 60)) == (
        "Two ways\n"
        "\n"
        "A loop is plain, and sum is short; see the manual\n"
        "(https://docs.python.org/3/).\n"
        "\n"
        "1. Read the numbers\n"
        "2. Add them\n"
        "   ◦ whole numbers are exact\n"
        "   ◦ others are not\n"
        "\n"
        "python                                                  copy\n"
        "def total(numbers: list[int]) -> int:\n"
        "    return sum(numbers)  # no loop\n"
        "\n"
        "way  │ lines │ speed\n"
        "─────┼───────┼──────\n"
        "loop │     4 │ slow\n"
        "sum  │     1 │ fast\n"
        "\n"
        "▎ Measure before you choose.\n"
        "\n" + "─" * 60 + "\n"
        "\n"
        "A\n"
        "B no [image: cat] (c.png)"
    )


def test_a_table_that_is_too_wide_wraps_its_cells_and_keeps_all_words() -> None:
    cell = " ".join(f"word{k}" for k in range(12))
    lines = plain(Document(f"| a | b |\n|---|---|\n| {cell} | {cell} |\n"), 60)
    assert max(map(len, lines)) <= 60
    assert sum("word" in line for line in lines) > 1
    assert all(" ".join(lines).count(f"word{k}") >= 2 for k in range(12))


def test_html_is_shown_as_it_was_written() -> None:
    assert plain(Document("<script>x</script> <b>y</b>")) == ["<script>x</script> <b>y</b>"]


def test_wide_characters_and_scripts_from_the_right_keep_to_the_width() -> None:
    document = Document("漢字" * 60 + " " + "שלום עולם " * 20 + "👩‍👩‍👧 " * 30)
    assert max(line.content.cell_length for line in document.lines(40)) <= 40


@given(text=st.text(alphabet="ab\n\r `*-#|>1.[]()~_ \t", max_size=300), n=st.integers(1, 9))
def test_in_pieces_it_becomes_what_it_is_at_once(text: str, n: int) -> None:
    growing = Document(is_growing=True)
    for at in range(0, len(text), n):
        growing.feed(text[at : at + n])
        growing.lines(40)
    growing.finish()
    assert plain(growing, 40) == plain(Document(text), 40)
    assert growing.codes() == Document(text).codes()


def test_code_keeps_its_content_while_it_streams() -> None:
    code = "".join(f"line_{k} = {k}\n" for k in range(500))
    growing = Document(is_growing=True)
    source = f"Look:\n\n```python\n{code}"
    for at in range(0, len(source), 11):
        growing.feed(source[at : at + 11])
        growing.lines(76)
    assert plain(growing)[3:] == code.split("\n")[:-1]
    growing.feed("```\n\nDone.")
    assert growing.codes() == [code]
    assert plain(growing)[3:503] == code.split("\n")[:-1] and plain(growing)[-1] == "Done."


@pytest.mark.parametrize(
    "unit",
    [
        "A paragraph of some *words* with `code` in it, and a few more.\n\n",
        "1. An item of a long list, with **some** words\n",
        "```python\nx = sum(y for y in range(10))\n```\n\n",
    ],
    ids=["paragraphs", "one list", "code"],
)
def test_a_long_answer_costs_its_last_block_only(unit: str) -> None:
    source = unit * (30_000 // len(unit))
    growing = Document(is_growing=True)
    spent_s = [_step_s(growing, source[at : at + 20]) for at in range(0, len(source), 20)]
    tenth = len(spent_s) // 10
    first, last = sorted(spent_s[tenth : 2 * tenth]), sorted(spent_s[-tenth:])
    assert last[tenth // 2] < 4 * first[tenth // 2] + 0.002


def _step_s(growing: Document, text: str) -> float:
    began_s = process_time()
    growing.feed(text)
    growing.lines(76)
    return process_time() - began_s
