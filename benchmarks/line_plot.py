"""A line plot as SVG, drawn by hand: one x axis, a logarithmic y axis, a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 400, 70, 50, 40, 20
_COLORS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad")

Line = Sequence[tuple[float, float]]


def line_plot(title: str, x_label: str, y_label: str, lines: Mapping[str, Line]) -> str:
    """Return the SVG text.

    Args:
        title: above the plot.
        x_label: below the x axis, which begins at 0.
        y_label: beside the y axis.
        lines: name to points (x, y); every y is above 0.
    """
    points = [point for line in lines.values() for point in line]
    x_max = max(x for x, _ in points)
    low = math.floor(math.log10(min(y for _, y in points)) * 2) / 2
    high = math.ceil(math.log10(max(y for _, y in points)) * 2 + 1e-9) / 2

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(y) - low) / (high - low)
        return (
            _LEFT + x / x_max * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        ' font-size="12"><rect width="100%" height="100%" fill="white"/>',
        _text(_WIDTH / 2, 20, title, "middle", 15),
        _text(_WIDTH / 2, _HEIGHT - 12, x_label, "middle"),
        f'<g transform="rotate(-90 16 {_HEIGHT / 2})">{_text(16, _HEIGHT / 2, y_label, "middle")}</g>',
    ]
    for half_decade in range(round(low * 2), round(high * 2) + 1):
        y = 10 ** (half_decade / 2)
        (left, at), (right, _) = place(0, y), place(x_max, y)
        parts.append(f'<path d="M{left} {at:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, at + 4, f"{y:.3g}", "end"))
    for step in range(6):
        x = x_max * step / 5
        parts.append(_text(place(x, 10**low)[0], _HEIGHT - _BOTTOM + 18, f"{x:,.0f}", "middle"))
    for number, (name, line) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<g fill="{color}">{_text(_WIDTH - _RIGHT - 8, _TOP + 16 * (number + 1), name, "end")}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
