"""One text of Markdown, from its first characters to its last."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from textual.content import Content

from localllm.chat.blocks import BlockSplitter
from localllm.printable import marked
from tui.markdown.code import Code
from tui.markdown.layout import code_head, lines_of
from tui.markdown.line import Line, blank
from tui.markdown.parts import CodeRow, Margin, Row, Words, language_of, rows_of

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})([^\n`]*)\n")
_ITEM = re.compile(r"^([-*+]|\d{1,9}[.)])[ \t]", re.MULTILINE)
_N_SETTLED = 600
"""Characters of a growing list that are worth not being read again."""
_N_PLAIN = 8000
"""A growing block that is longer is shown as it was written until it ends: it would be read again too often."""


class Document:
    """Markdown as lines. A block that has ended is read once; only the last one is read again as it grows.

    Args:
        source: what there is of it.
        is_growing: more may come.
    """

    def __init__(self, source: str = "", *, is_growing: bool = False) -> None:
        self._splitter = BlockSplitter()
        self._held = ""
        self._blocks: list[list[Row]] = []
        self._laid = _Laid(0)
        self._growing: _Growing | None = None
        self.feed(source)
        if not is_growing:
            self.finish()

    def feed(self, text: str) -> None:
        """Take more of the text."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        self._end_blocks(self._splitter.feed(marked(text.removesuffix(self._held))))

    def finish(self) -> None:
        """Take what there is for the whole."""
        self._end_blocks([*self._splitter.feed(marked(self._held)), *self._splitter.flush()])
        self._held = ""

    def lines(self, width: int) -> list[Line]:
        """Return the document as lines for `width` columns."""
        if self._laid.width != width:
            self._laid, self._growing = _Laid(width), None
        for rows in self._blocks[self._laid.n_blocks :]:
            self._laid.add(rows)
        pending = self._splitter.pending
        if not pending.strip():
            return self._laid.lines
        if self._growing is None:
            self._growing = _Growing(width, self._laid.n_codes)
        gap = [blank()] if self._laid.lines else []
        return [*self._laid.lines, *gap, *self._growing.lines(pending)]

    def codes(self) -> list[str]:
        """Return the blocks of code, without their fences."""
        rows = [row for block in self._blocks for row in block] + rows_of(self._splitter.pending)
        return [row.text for row in rows if isinstance(row, CodeRow)]

    def _end_blocks(self, blocks: list[str]) -> None:
        if blocks:
            self._blocks += [rows for rows in map(rows_of, blocks) if rows]
            self._growing = None


@dataclass
class _Laid:
    """The blocks that have ended, as lines of one width."""

    width: int
    lines: list[Line] = field(default_factory=list)
    n_blocks: int = 0
    n_codes: int = 0

    def add(self, rows: list[Row]) -> None:
        if self.lines:
            self.lines.append(blank())
        self.lines += lines_of(rows, self.width, self.n_codes)
        self.n_blocks += 1
        self.n_codes += sum(isinstance(row, CodeRow) for row in rows)


class _Growing:
    """The last block while it grows. Text only comes at its end."""

    def __init__(self, width: int, n_codes: int) -> None:
        self._width = width
        self._n_codes = n_codes
        self._settled: list[Line] = []
        self._n_settled = 0
        self._code: Code | None = None

    def lines(self, text: str) -> list[Line]:
        if self._code is not None:
            return self._code_lines(text)
        fence = _FENCE.match(text)
        if fence is not None:
            self._code = Code(language_of(fence[2]), is_growing=True)
            self._settled = [code_head(language_of(fence[2]), self._n_codes, self._width)]
            self._n_settled = fence.end()
            return self._code_lines(text)
        if _ITEM.match(text):
            self._settle_items(text)
        return [*self._settled, *self._read(text[self._n_settled :])]

    def _code_lines(self, text: str) -> list[Line]:
        assert self._code is not None
        first = self._code.feed(text[self._n_settled :])
        self._n_settled = len(text)
        self._settled[1 + first :] = self._code.lines(first)
        is_open = text.endswith("\n") and len(self._settled) > 2
        return self._settled[:-1] if is_open else self._settled

    def _settle_items(self, text: str) -> None:
        *_, last = _ITEM.finditer(text, self._n_settled)
        if last.start() - self._n_settled > _N_SETTLED:
            self._settled += self._read(text[self._n_settled : last.start()])
            self._n_settled = last.start()

    def _read(self, text: str) -> list[Line]:
        rows = rows_of(text) if len(text) <= _N_PLAIN else [Words(Margin(), Content(text))]
        return list(lines_of(rows, self._width, self._n_codes))
