"""A plot in a terminal: lines in braille dots, points as marks; axes with numbers.

Series are told apart by their dashes or marks, so that no colour is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from textual.content import Content
from textual.widget import Widget

from tui.widgets.plot_scale import Axis, Scale

MARKS = "●○◆◇■□▲△"
"""Of the series that are points, one after the other."""
_DASHES = ((1, 0), (6, 4), (1, 3), (8, 8))
"""Of the series that are lines: dots on, dots off."""
_DASH_SIGNS = ("⠒⠒⠒", "⠒ ⠒", "⠐⠐⠐", "⠒⠒ ")
_STYLES = ("$primary", "$warning", "$success", "$error")
_MUTED = "$text-muted"
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of a braille character, by row and column."""
_MIN_WIDTH, _MIN_HEIGHT = 16, 5

Place = tuple[int, int]
"""Column and row of a cell."""


@dataclass(frozen=True)
class Series:
    """Values that belong together."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: Literal["line", "points"] = "line"
    labels: Sequence[str] = ()
    """What stands beside each point, where there is room; of points only."""


class Plot(Widget):
    """One or several series over the same axes.

    Args:
        series: what to draw; `show` draws others.
        x_axis: below.
        y_axis: on the left.
        empty: what stands there while there is nothing to draw.
    """

    DEFAULT_CSS = """
    Plot {
        height: 12;
        width: 1fr;
    }
    """

    def __init__(
        self,
        series: Sequence[Series] = (),
        x_axis: Axis | None = None,
        y_axis: Axis | None = None,
        *,
        empty: str = "Nothing to show yet.",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._series = tuple(series)
        self._x_axis, self._y_axis = x_axis or Axis(), y_axis or Axis()
        self._empty = empty

    def show(self, series: Sequence[Series]) -> None:
        """Draw these instead."""
        self._series = tuple(series)
        self.refresh()

    def render(self) -> Content:
        width, height = self.size
        if not any(one.points for one in self._series):
            return Content.styled(self._empty, _MUTED)
        if width < _MIN_WIDTH or height < _MIN_HEIGHT:
            return Content.styled("There is no room for the plot.", _MUTED)
        return _Drawing(self._series, self._x_axis, self._y_axis, width, height).content()


class _Drawing:
    """One picture: cells with characters, and dots between them."""

    def __init__(self, series: Sequence[Series], x_axis: Axis, y_axis: Axis, width: int, height: int) -> None:
        self._series, self._x_axis, self._y_axis = series, x_axis, y_axis
        self._height = height - 3
        """Of the field: above it is the head, below it the axis and its numbers."""
        xs, ys = ([point[n] for one in series for point in one.points] for n in (0, 1))
        self._y = y_axis.scale(ys, max(2, self._height // 3))
        self._y_numbers = [y_axis.number(tick) for tick in self._y.ticks]
        self._left = max(map(len, self._y_numbers)) + 2
        self._width = width - self._left
        self._x = x_axis.scale(xs, max(2, self._width // 10))
        self._cells: dict[Place, tuple[str, str]] = {}
        self._dots: dict[Place, tuple[int, str]] = {}

    def content(self) -> Content:
        for number, one in enumerate(self._of_kind("line")):
            self._draw_line(one, number)
        for place, (bits, style) in self._dots.items():
            self._cells[place] = (chr(0x2800 + bits), style)
        points = list(self._of_kind("points"))
        for number, one in enumerate(points):
            for spot in self._places(one):
                if spot is not None:
                    self._cells[spot] = (MARKS[number % len(MARKS)], _STYLES[number % len(_STYLES)])
        for one in points:
            for spot, label in zip(self._places(one), one.labels, strict=False):
                if spot is not None:
                    self._write_label(spot, label)
        rows = [self._head(), *map(self._row, range(self._height)), *self._foot()]
        return Content("\n").join(rows)

    def _of_kind(self, kind: str) -> Iterator[Series]:
        return (one for one in self._series if one.kind == kind)

    def _at(self, scale: Scale, value: float, n_places: int) -> int | None:
        share = scale.share(value)
        return None if share is None else min(n_places - 1, max(0, round(share * (n_places - 1))))

    def _place(self, x: float, y: float, fineness: Place) -> Place | None:
        n_across, n_down = self._width * fineness[0], self._height * fineness[1]
        across, up = self._at(self._x, x, n_across), self._at(self._y, y, n_down)
        return None if across is None or up is None else (across, n_down - 1 - up)

    def _places(self, series: Series) -> Iterator[Place | None]:
        return (self._place(x, y, (1, 1)) for x, y in series.points)

    def _draw_line(self, series: Series, number: int) -> None:
        on, off = _DASHES[number % len(_DASHES)]
        n_dots = 0
        dots = [self._place(x, y, (2, 4)) for x, y in series.points]
        for start, end in pairwise(dots) if len(dots) > 1 else [(dots[0], dots[0])] if dots else []:
            if start is not None and end is not None:
                for dot in _between(start, end):
                    if n_dots % (on + off) < on:
                        self._set_dot(dot, _STYLES[number % len(_STYLES)])
                    n_dots += 1

    def _set_dot(self, dot: Place, style: str) -> None:
        cell = (dot[0] // 2, dot[1] // 4)
        bits, _ = self._dots.get(cell, (0, style))
        self._dots[cell] = (bits | _BITS[dot[1] % 4][dot[0] % 2], style)

    def _write_label(self, place: Place, label: str) -> None:
        column, row = place
        for first in (column + 2, column - 1 - len(label)):
            span = range(first, first + len(label))
            if first >= 0 and span.stop <= self._width and not any((at, row) in self._cells for at in span):
                for at, sign in zip(span, label, strict=True):
                    self._cells[at, row] = (sign, _MUTED)
                return

    def _row(self, row: int) -> Content:
        numbers = {
            self._height - 1 - at: text
            for tick, text in zip(self._y.ticks, self._y_numbers, strict=True)
            if (at := self._at(self._y, tick, self._height)) is not None
        }
        text = numbers.get(row, "")
        edge = "┤" if text else "│"
        cells = (self._cells.get((column, row), (" ", "")) for column in range(self._width))
        return Content.assemble((f"{text:>{self._left - 2}} {edge}", _MUTED), *_runs(cells))

    def _head(self) -> Content:
        """Return the title of the y axis, and what the marks mean where there are several."""
        names: list[tuple[str, str]] = []
        for kind, signs in (("line", _DASH_SIGNS), ("points", MARKS)):
            for number, one in enumerate(self._of_kind(kind)):
                names.append((f"{signs[number % len(signs)]} ", _STYLES[number % len(_STYLES)]))
                names.append((f"{one.name}  ", _MUTED))
        legend = Content.assemble(*names) if len(self._series) > 1 else Content("")
        room = max(0, self._left + self._width - legend.cell_length - 1)
        title = self._y_axis.title[:room]
        return Content.assemble((f"{title:<{room}} ", _MUTED)) + legend

    def _foot(self) -> Iterator[Content]:
        ticks = {
            at: self._x_axis.number(tick)
            for tick in self._x.ticks
            if (at := self._at(self._x, tick, self._width)) is not None
        }
        line = "".join("┬" if column in ticks else "─" for column in range(self._width))
        yield Content.styled(" " * (self._left - 1) + "└" + line, _MUTED)
        yield Content.styled(self._numbers_below(ticks), _MUTED)

    def _numbers_below(self, ticks: dict[int, str]) -> str:
        title = self._x_axis.title
        room = self._left + self._width
        numbers = [" "] * (room - len(title) - 1 if title else room)
        free = 0
        for at, text in sorted(ticks.items()):
            first = max(0, min(self._left + at - len(text) // 2, room - len(text)))
            if first >= free and first + len(text) <= len(numbers):
                numbers[first : first + len(text)] = text
                free = first + len(text) + 1
        return "".join(numbers) + (f" {title}" if title else "")


def _between(start: Place, end: Place) -> Iterator[Place]:
    """Yield the dots from one to the other."""
    n = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for step in range(n + 1):
        yield (
            start[0] + round((end[0] - start[0]) * step / n),
            start[1] + round((end[1] - start[1]) * step / n),
        )


def _runs(cells: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield cells of one style together."""
    text, style = "", ""
    for sign, its_style in cells:
        if its_style != style and text:
            yield text, style
            text = ""
        text, style = text + sign, its_style
    if text:
        yield text, style
