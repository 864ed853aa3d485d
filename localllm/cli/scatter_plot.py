"""A scatter plot as SVG: named points over a linear x axis from 0 and a logarithmic y axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 420, 80, 30, 50, 55
_COLORS = ("#1b6ca8", "#c0392b")
_N_X_STEPS = 5
_MARGIN = 0.06
"""Of the x axis, beyond the largest point."""


@dataclass(frozen=True)
class Point:
    """One thing that is plotted."""

    name: str
    x: float
    y: float
    """Above 0."""
    is_marked: bool = False
    """In the second colour."""


def scatter_plot(title: str, x_label: str, y_label: str, points: Sequence[Point]) -> str:
    """Return the text of an SVG file.

    Args:
        title: above the plot.
        x_label: below the x axis.
        y_label: beside the y axis.
        points: at least one; x and y are above 0.
    """
    axes = _Axes.around(points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        ' font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>',
        _text(_WIDTH / 2, 24, title, "middle", 15),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, x_label, "middle"),
        f'<g transform="rotate(-90 18 {_HEIGHT / 2})">{_text(18, _HEIGHT / 2, y_label, "middle")}</g>',
        *axes.lines(),
        *(part for point in points for part in _point(point, *axes.place(point.x, point.y))),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Axes:
    """From values to places in the picture."""

    x_max: float
    low: int
    high: int
    """Decades that the y axis begins and ends with."""

    @classmethod
    def around(cls, points: Sequence[Point]) -> _Axes:
        low = math.floor(math.log10(min(point.y for point in points)))
        high = math.ceil(math.log10(max(point.y for point in points)))
        return cls(_round_up(max(point.x for point in points) * (1 + _MARGIN)), low, max(high, low + 1))

    def place(self, x: float, y: float) -> tuple[float, float]:
        share = (math.log10(y) - self.low) / (self.high - self.low)
        return (
            _LEFT + x / self.x_max * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM),
        )

    def lines(self) -> Iterator[str]:
        """Yield the grid and its numbers: 1, 2 and 5 of each decade, and steps of x."""
        for decade in range(self.low, self.high + 1):
            for digit in (1, 2, 5) if decade < self.high else (1,):
                y = digit * 10.0**decade
                left, at = self.place(0, y)
                color = "#bbb" if digit == 1 else "#e8e8e8"
                yield f'<path d="M{left:.1f} {at:.1f}H{_WIDTH - _RIGHT}" stroke="{color}"/>'
                yield _text(left - 6, at + 4, f"{y:.3g}", "end")
        for step in range(_N_X_STEPS + 1):
            x = self.x_max * step / _N_X_STEPS
            yield _text(self.place(x, 1)[0], _HEIGHT - _BOTTOM + 18, f"{x:.4g}", "middle")


def _point(point: Point, x: float, y: float) -> Iterator[str]:
    color = _COLORS[point.is_marked]
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    is_right = x > (_LEFT + _WIDTH) / 2
    name = _text(x - 8, y + 4, point.name, "end") if is_right else _text(x + 8, y + 4, point.name, "start")
    yield f'<g fill="{color}">{name}</g>'


def _round_up(x: float) -> float:
    """Return the next number from `x` on with two digits that five steps divide evenly."""
    unit = 10.0 ** (math.floor(math.log10(x)) - 1) * _N_X_STEPS
    return math.ceil(x / unit) * unit


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
