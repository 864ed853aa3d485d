"""Rendered answers."""

from __future__ import annotations

import io

from rich.console import Console

from localllm.cli.screen import MarkdownAnswer


def rendered(text: str, *, step: int = 3, height: int = 10, is_terminal: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, width=40, height=height, force_terminal=is_terminal, highlight=False)
    answer = MarkdownAnswer(console)
    for start in range(0, len(text), step):
        answer.write(text[start : start + step])
    answer.end()
    return output.getvalue()


def test_blocks_are_printed_once_each_with_a_line_between() -> None:
    lines = [line.rstrip() for line in rendered("A **bold** word.\n\nSecond.\n\n- x\n- y\n").splitlines()]
    assert lines == ["A bold word.", "", "Second.", "", " • x", " • y"]


def test_answer_that_is_never_started_prints_nothing() -> None:
    MarkdownAnswer(console := Console(file=io.StringIO())).end()
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_links_show_their_address_and_controls_are_dropped() -> None:
    text = rendered("[here](http://example.org) \x1b[2Jx", is_terminal=True)
    assert "http://example.org" in text and "\x1b]8;" not in text and "\x1b[2J" not in text


def test_block_taller_than_the_terminal_is_printed_whole() -> None:
    code = "```\n" + "".join(f"line {n}\n" for n in range(50)) + "```\n"
    final = rendered(code, is_terminal=True).rpartition("line 0")[2]
    assert all(f"line {n}" in final for n in range(1, 50))
