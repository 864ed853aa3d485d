"""Code: coloured where it is looked at, some lines at a time: a long program costs what one screen of it costs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.content import Content

from tui.markdown.line import Line

CODE_STYLE = "on $surface"
_N_LINES_AT_ONCE = 60
_N_LINES_WHOLE = 300
_LONGEST_LINE = 1000
"""Lexers are regular expressions: on a line that is longer, one could take for ever."""
_TAB = 4


class Code:
    """The lines of one block of code.

    What spans lines, such as a long string, is coloured right where the whole is coloured at once: up to 300 lines
    that no longer change.
    """

    def __init__(self, language: str, text: str = "", *, is_growing: bool = False) -> None:
        self._language = language
        self._lines = text.expandtabs(_TAB).removesuffix("\n").split("\n")
        is_whole = not is_growing and len(self._lines) <= _N_LINES_WHOLE
        self._n_at_once = len(self._lines) if is_whole else _N_LINES_AT_ONCE
        self._coloured: dict[int, list[Content]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def feed(self, text: str) -> int:
        """Take more of the text; return the first line that may look different now."""
        first = (len(self._lines) - 1) // self._n_at_once
        head, *rest = text.split("\n")
        self._lines[-1] = (self._lines[-1] + head).expandtabs(_TAB)
        self._lines += [line.expandtabs(_TAB) for line in rest]
        self._coloured.pop(first, None)
        return first * self._n_at_once

    def lines(self, first: int = 0) -> Iterator[Line]:
        """Yield the lines from `first` on."""
        for number in range(first, len(self._lines)):
            yield Line(partial(self._line, number), CODE_STYLE, is_wide=True)

    def _line(self, number: int) -> Content:
        part, at = divmod(number, self._n_at_once)
        if part not in self._coloured:
            start = part * self._n_at_once
            self._coloured[part] = _coloured(self._lines[start : start + self._n_at_once], self._language)
        return self._coloured[part][at]


def _coloured(lines: list[str], language: str) -> list[Content]:
    if not language or any(len(line) > _LONGEST_LINE for line in lines):
        return [Content(line) for line in lines]
    from textual.highlight import highlight

    coloured = highlight("\n".join(lines), language=language).split("\n", allow_blank=True)
    missing = [Content("")] * (len(lines) - len(coloured))
    return [*coloured, *missing]
