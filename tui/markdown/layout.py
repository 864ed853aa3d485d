"""Rows of Markdown, as lines of a width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.style import Style

from tui.markdown.code import CODE_STYLE, Code
from tui.markdown.line import Line
from tui.markdown.parts import CodeRow, Gap, Margin, Row, RuleRow, TableRow, Words
from tui.markdown.table import table_lines

_LEAST_WIDTH = 10
_MARGIN_STYLE = "$text-muted"


def lines_of(rows: Sequence[Row], width: int, n_codes_before: int = 0) -> Iterator[Line]:
    """Yield the lines of `rows`.

    Args:
        rows: of one document, in order.
        width: columns.
        n_codes_before: how many blocks of code stand above them: what copies one knows it by its number.
    """
    for row in rows:
        yield from _with_margin(_row_lines(row, _room(row.margin, width), n_codes_before), row.margin, width)
        n_codes_before += isinstance(row, CodeRow)


def code_head(language: str, number: int, width: int) -> Line:
    """Return the line above a block of code: its language, and where to click for a copy."""
    copy = Content("copy").stylize("$text-muted underline").stylize(Style.from_meta({"code": number}))
    left = Content.styled(language or "code", "$text-muted").truncate(max(width - 6, 1), ellipsis=True)
    return Line(left.pad_right(max(width - left.cell_length - 4, 1)) + copy, CODE_STYLE)


def wrapped(content: Content, width: int) -> Iterator[Content]:
    """Yield the lines of a text at most `width` columns wide."""
    for line in content.split("\n", allow_blank=True):
        yield from line.expand_tabs(4).wrap(width) if line else (line,)


def _row_lines(row: Row, width: int, n_codes: int) -> Iterator[Line]:
    match row:
        case Words():
            for line in wrapped(row.content, width):
                yield Line(line.stylize_before(row.style) if row.style else line)
        case CodeRow():
            yield code_head(row.language, n_codes, width)
            yield from Code(row.language, row.text).lines()
        case TableRow():
            yield from table_lines(row, width)
        case RuleRow():
            yield Line(Content.styled("─" * width, "$foreground 30%"))
        case Gap():
            yield Line(Content(""))


def _room(margin: Margin, width: int) -> int:
    return max(width - cell_len(margin.first), _LEAST_WIDTH)


def _with_margin(lines: Iterator[Line], margin: Margin, width: int) -> Iterator[Line]:
    if not margin.first:
        yield from lines
        return
    room = max(width - _LEAST_WIDTH, 0)
    text = margin.first[:room]
    for line in lines:
        yield _moved(line, Content.styled(text, _MARGIN_STYLE))
        text = margin.rest[:room]


def _moved(line: Line, left: Content) -> Line:
    return Line(lambda: left + line.content, line.style, line.is_wide)
