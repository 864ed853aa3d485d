"""What a message shows besides its text: who said it, how it ended, what was thought, which tools were called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.content import Content
from textual.style import Style

from localllm.printable import marked
from tui.chat.meter import Figures
from tui.markdown.layout import wrapped
from tui.markdown.line import Line

if TYPE_CHECKING:
    from localllm.chat.messages import ToolCall
    from localllm.conversations import Node

_STATES = {
    "stopped": "stopped",
    "length": "stopped at its limit of tokens · Ctrl+L goes on",
    "failed": "failed",
    "interrupted": "interrupted · Ctrl+L goes on",
}
_N_LEFT = 20
"""Columns that the name keeps, however much stands to its right."""
TOGGLE = Style.from_meta({"toggle": True})


def one_line(text: str, n_characters: int = 400) -> str:
    """Return the beginning of a text on one line, without what could harm."""
    return " ".join(marked(text[:n_characters]).split())


def role_line(node: Node, width: int) -> Line:
    """Return the line above a message: who, how it ended, which branch, how fast."""
    right = _facts(node)
    is_person = node.role == "user"
    name = "You" if is_person else one_line(node.model or "Model")
    left = Content.styled(name, "bold $text-accent" if is_person else "bold $text-primary")
    if node.state in _STATES:
        left += Content.styled(f" · {_STATES[node.state]}", "$text-warning")
    left = left.truncate(max(width - right.cell_length - 1, min(_N_LEFT, width)), ellipsis=True)
    room = width - left.cell_length
    if right.cell_length >= room:
        right = _branches(node)
    return Line(left if right.cell_length >= room else left + right.pad_left(room - right.cell_length))


def thinking_lines(head: str, is_open: bool, inside: list[Line]) -> Iterator[Line]:
    """Yield what a model thought: one line, and all of it where it is open."""
    yield Line(_fold(head, is_open, "$text-muted italic"))
    if is_open:
        for line in inside:
            yield Line(_barred(line.content), line.style, line.is_wide)


def call_lines(call: ToolCall, is_open: bool, width: int) -> Iterator[Line]:
    """Yield a call that a model made."""
    name, arguments = one_line(call.function.name), call.function.arguments
    yield Line(_fold(f"{name}({one_line(arguments)})", is_open, "$text-secondary").truncate(width, ellipsis=True))
    if is_open:
        for line in wrapped(Content(marked(_indented(arguments))), max(width - 2, 1)):
            yield Line(_barred(line))


def result_lines(text: str, is_open: bool, width: int) -> Iterator[Line]:
    """Yield what a tool answered."""
    n_more = text.rstrip().count("\n")
    more = f" (+{n_more:,} lines)" if n_more else ""
    first = Content(one_line(text.lstrip().partition("\n")[0]) or "nothing").truncate(
        width - len(more) - 4, ellipsis=True
    )
    yield Line(_fold(f"→ {first.plain}{more}", is_open, "$text-secondary"))
    if is_open:
        for line in wrapped(Content(marked(text)), max(width - 2, 1)):
            yield Line(_barred(line))


def error_lines(node: Node, width: int) -> Iterator[Line]:
    """Yield why an answer ended early, and what can be done."""
    if not node.error:
        return
    todo = "Ctrl+R tries again, Ctrl+L goes on." if node.text else "Ctrl+R tries again."
    for line in wrapped(Content(f"! {marked(node.error)} {todo}"), width):
        yield Line(line.stylize("$text-error"))


def _facts(node: Node) -> Content:
    branches = _branches(node)
    figures = Figures.of_facts(node.facts) if node.role == "assistant" else Figures()
    if not figures.tok_s:
        return branches
    speed = Content.styled(f"{figures.tok_s:.0f} tok/s", "$text-muted")
    return speed + Content("  ") + branches if branches else speed


def _branches(node: Node) -> Content:
    if node.n_siblings < 2:
        return Content("")
    back, forth = Style.from_meta({"sibling": -1}), Style.from_meta({"sibling": 1})
    number = Content(f" {node.sibling_index + 1}/{node.n_siblings} ")
    return (Content("‹").stylize(back) + number + Content("›").stylize(forth)).stylize("$text-muted")


def _fold(text: str, is_open: bool, style: str) -> Content:
    return Content(f"{'▾' if is_open else '▸'} {text}").stylize(style).stylize(TOGGLE)


def _barred(content: Content) -> Content:
    return Content.styled("│ ", "$foreground 30%") + content.stylize_before("$text-muted")


def _indented(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return arguments
