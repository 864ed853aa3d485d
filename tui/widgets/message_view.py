"""One message, as lines. Not a widget: a conversation has thousands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.content import Content

from localllm.printable import marked
from tui.markdown import Document, Line
from tui.markdown.layout import wrapped
from tui.markdown.line import blank
from tui.widgets.message_parts import (
    TOGGLE,
    call_lines,
    error_lines,
    result_lines,
    role_line,
    thinking_lines,
)

if TYPE_CHECKING:
    from localllm.conversations import Node

_N_UNFOLDED = 60
"""Lines of a person's message that are shown at once: of a long paste, the beginning is enough to know it by."""


def estimated_lines(node: Node, width: int) -> int:
    """Return about how many lines a message has, without laying it out."""
    if node.role == "tool":
        return 2
    n_breaks = node.text.count("\n")
    n_lines = 3 + n_breaks + (len(node.text) - n_breaks) // max(width, 1)
    return min(n_lines, _N_UNFOLDED + 3) if node.role == "user" else n_lines


class MessageView:
    """A message of a conversation, finished or still streaming.

    Args:
        node: the message.
        is_growing: its text and its reasoning may go on.
    """

    def __init__(self, node: Node, *, is_growing: bool = False) -> None:
        self.node = node
        self.is_open = False
        """Thinking, calls and long pastes are shown whole."""
        self.shift = 0
        """Columns that wide lines are moved to the left."""
        self.is_growing = is_growing
        self._text, self._reasoning = node.text, node.reasoning
        self._thought = _Stopwatch()
        self._laid: tuple[int, list[Line]] | None = None
        self._begin()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text

    @property
    def has_details(self) -> bool:
        """Say whether there is something that opening shows."""
        node = self.node
        is_long = node.role == "user" and self._text.count("\n") >= _N_UNFOLDED
        return bool(self._reasoning or node.tool_calls or is_long or node.role == "tool")

    def feed_text(self, text: str) -> None:
        """Take more of the answer."""
        self._thought.stop()
        self._text += text
        self._body.feed(text)
        self._laid = None

    def feed_reasoning(self, text: str) -> None:
        """Take more of what is thought."""
        self._thought.start()
        self._reasoning += text
        self._thinking.feed(text)
        self._laid = None

    def finish(self, node: Node) -> None:
        """Take the whole message for what it is; `node` is right where it differs from what was fed."""
        is_as_fed = (node.text, node.reasoning) == (self._text, self._reasoning)
        self.node, self._text, self._reasoning = node, node.text, node.reasoning
        self.is_growing = False
        self._thought.stop()
        if is_as_fed:
            self._body.finish()
            self._thinking.finish()
            self._laid = None
        else:
            self._begin()

    def toggle(self) -> None:
        """Open what is folded, or fold it."""
        self.is_open = not self.is_open
        self._laid = None

    def forget(self) -> None:
        """Lay it out again when it is next looked at."""
        self._laid = None

    def codes(self) -> list[str]:
        """Return its blocks of code."""
        return [] if self.node.role == "user" else self._body.codes()

    def lines(self, width: int) -> list[Line]:
        """Return it as lines for `width` columns, an empty one at the end."""
        if self._laid is None or self._laid[0] != width:
            self._laid = width, [*self._lines(width), blank()]
        return self._laid[1]

    def _begin(self) -> None:
        is_answer = self.node.role == "assistant"
        self._body = Document(self._text if is_answer else "", is_growing=self.is_growing)
        self._thinking = Document(self._reasoning, is_growing=self.is_growing)
        self._laid = None

    def _lines(self, width: int) -> Iterator[Line]:
        if self.node.role == "tool":
            yield from result_lines(self._text, self.is_open, width)
            return
        yield role_line(self.node, width)
        yield from self._as_written(width) if self.node.role == "user" else self._answer(width)

    def _answer(self, width: int) -> Iterator[Line]:
        if self._reasoning:
            inside = self._thinking.lines(max(width - 2, 1)) if self.is_open else []
            yield from thinking_lines(self._thinking_head(), self.is_open, inside)
            if self._text.strip():
                yield blank()
        elif self.is_growing and not self._text.strip():
            yield Line(Content.styled("…", "$text-muted"))
        yield from self._body.lines(width)
        for call in self.node.tool_calls:
            yield from call_lines(call, self.is_open, width)
        yield from error_lines(self.node, width)

    def _as_written(self, width: int) -> Iterator[Line]:
        lines = marked(self._text).rstrip("\n").split("\n")
        n_hidden = 0 if self.is_open else len(lines) - _N_UNFOLDED
        for line in lines[:_N_UNFOLDED] if n_hidden > 0 else lines:
            yield from map(Line, wrapped(Content(line), width))
        if n_hidden > 0:
            yield Line(Content.styled(f"▸ {n_hidden:,} more lines", "$text-muted italic").stylize(TOGGLE))

    def _thinking_head(self) -> str:
        seconds = self._thought.elapsed_s
        if self.is_growing and not self._text.strip():
            return f"Thinking… {seconds:.0f} s"
        return f"Thought for {seconds:.0f} s" if seconds >= 1 else f"Thought, {len(self._reasoning.split()):,} words"


class _Stopwatch:
    def __init__(self) -> None:
        self._began_s: float | None = None
        self._ended_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        if self._began_s is None:
            return 0.0
        return (time.monotonic() if self._ended_s is None else self._ended_s) - self._began_s

    def start(self) -> None:
        if self._began_s is None:
            self._began_s = time.monotonic()
        self._ended_s = None

    def stop(self) -> None:
        if self._ended_s is None:
            self._ended_s = time.monotonic()
