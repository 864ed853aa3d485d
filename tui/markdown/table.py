"""Tables: as wide as their cells, narrower where there is no room, moved sideways where that is not enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from textual.content import Content

from tui.markdown.line import Line
from tui.markdown.parts import Align, TableRow

_WIDEST = 48
_NARROWEST = 8
_BETWEEN = " │ "


def table_lines(row: TableRow, width: int) -> Iterator[Line]:
    """Yield the lines of a table for `width` columns."""
    widths = _widths(row, width)
    between = Content.styled(_BETWEEN, "$foreground 30%")
    for number, cells in enumerate(row.cells):
        for pieces in _cell_lines(cells, widths):
            parts = [_aligned(piece, n, align) for piece, n, align in zip(pieces, widths, row.aligns, strict=True)]
            content = between.join(parts)
            yield Line(content.stylize("bold") if number == 0 else content, is_wide=True)
        if number == 0:
            rule = "─┼─".join("─" * n for n in widths)
            yield Line(Content.styled(rule, "$foreground 30%"), is_wide=True)


def _widths(row: TableRow, width: int) -> list[int]:
    columns = list(zip_longest(*row.cells, fillvalue=Content("")))
    natural = [max(1, *(cell.cell_length for cell in column)) for column in columns]
    room = width - len(_BETWEEN) * (len(columns) - 1)
    fitting = (most for most in range(_WIDEST, _NARROWEST, -1) if sum(min(n, most) for n in natural) <= room)
    most = next(fitting, _NARROWEST)
    return [min(n, most) for n in natural]


def _cell_lines(cells: Sequence[Content], widths: Sequence[int]) -> Iterator[tuple[Content, ...]]:
    wrapped = [cell.wrap(n) if cell.cell_length > n else [cell] for cell, n in zip(cells, widths, strict=False)]
    wrapped += [[Content("")]] * (len(widths) - len(wrapped))
    yield from zip_longest(*wrapped, fillvalue=Content(""))


def _aligned(cell: Content, width: int, align: Align) -> Content:
    room = max(width - cell.cell_length, 0)
    left = {"left": 0, "center": room // 2, "right": room}[align]
    return cell.pad(left, room - left)
