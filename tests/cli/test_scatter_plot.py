"""The plot is XML, and its points are where the numbers say."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.cli.scatter_plot import Point, scatter_plot

NUMBERS = st.floats(1e-6, 1e6)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(points: list[Point]) -> tuple[list[tuple[float, float]], list[str]]:
    root = ElementTree.fromstring(scatter_plot("A & B", "x <1>", 'y "2"', points))
    circles = [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in root.iter(f"{SVG}circle")]
    return circles, [text.text or "" for text in root.iter(f"{SVG}text")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8))
def test_every_point_is_inside_and_in_order(values: list[tuple[float, float]]) -> None:
    circles, _ = drawn([Point(f"p{n}", x, y) for n, (x, y) in enumerate(values)])
    assert len(circles) == len(values)
    assert all(80 <= x <= 730 and 50 <= y <= 365 for x, y in circles)
    for (x1, y1), (cx1, cy1) in zip(values, circles, strict=True):
        for (x2, y2), (cx2, cy2) in zip(values, circles, strict=True):
            assert cx1 <= cx2 if x1 < x2 else cx1 >= cx2
            assert cy1 >= cy2 if y1 < y2 else cy1 <= cy2


def test_the_y_axis_is_logarithmic_and_the_x_axis_begins_at_zero() -> None:
    circles, _ = drawn([Point("a", 10, 0.001), Point("b", 20, 0.01), Point("c", 40, 0.1)])
    (xa, ya), (xb, yb), (xc, yc) = circles
    assert yb - ya == pytest.approx(yc - yb, abs=0.2) and yb < ya
    assert xb - 80 == pytest.approx(2 * (xa - 80), abs=0.3) and xc - 80 == pytest.approx(4 * (xa - 80), abs=0.5)


def test_names_are_text_whatever_is_in_them() -> None:
    _, texts = drawn([Point('<b>"Q4" & co</b>', 1, math.pi, is_marked=True)])
    assert {'<b>"Q4" & co</b>', "A & B", "x <1>", 'y "2"'} <= set(texts)
