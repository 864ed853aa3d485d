"""The plot: everything that is given is in the picture, at its place, and readable without colour."""

from __future__ import annotations

import math

import pytest
from textual.app import App, ComposeResult

from tui.widgets.plot import Plot, Series
from tui.widgets.plot_scale import Axis, short_number

KLD = [(105.0, 0.03), (93.0, 0.07), (88.0, 0.15)]
NAMES = ["Q4_K_M", "Q3_K_M", "Q2_K"]


class PlotApp(App[None]):
    def __init__(self, plot: Plot) -> None:
        super().__init__()
        self._plot = plot

    def compose(self) -> ComposeResult:
        yield self._plot


async def drawn(plot: Plot, size: tuple[int, int] = (60, 14)) -> list[str]:
    app = PlotApp(plot)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        return plot.render().plain.splitlines()


async def test_points_carry_their_names_and_stand_in_order() -> None:
    lines = await drawn(Plot([Series("gptq", KLD, "points", NAMES)], Axis("MB"), Axis("KLD", is_log=True)))
    rows = {name: next(n for n, line in enumerate(lines) if name in line) for name in NAMES}
    assert rows["Q2_K"] < rows["Q3_K_M"] < rows["Q4_K_M"]
    columns = [lines[rows[name]].index("●") for name in ("Q2_K", "Q3_K_M", "Q4_K_M")]
    assert columns == sorted(columns)
    assert lines[0].startswith("KLD")
    assert lines[-1].rstrip().endswith("MB")


async def test_series_have_different_marks_and_a_legend() -> None:
    lines = await drawn(Plot([Series("gptq", KLD, "points"), Series("rtn", [(90.0, 0.3)], "points")]))
    assert "● gptq" in lines[0]
    assert "○ rtn" in lines[0]
    assert sum(line.count("○") for line in lines[1:]) == 1


async def test_lines_are_told_apart_by_their_dashes() -> None:
    ramp = [(float(x), float(x)) for x in range(50)]
    whole = await drawn(Plot([Series("a", ramp)]))
    both = await drawn(Plot([Series("b", [(0.0, 0.0), (49.0, 49.0)]), Series("a", ramp)]))
    assert any("⠀" < sign <= "⣿" for line in whole[1:-2] for sign in line)
    assert "⠒⠒⠒ b" in both[0]
    assert "⠒ ⠒ a" in both[0]


@pytest.mark.parametrize("points", [[(1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)], [(1.0, math.nan), (2.0, 3.0)]])
async def test_odd_values_do_not_break_it(points: list[tuple[float, float]]) -> None:
    for kind in ("line", "points"):
        lines = await drawn(Plot([Series("odd", points, kind)]))
        assert len(lines) == 12
        assert "┴" in "".join(lines) or "┬" in lines[-2]


async def test_a_log_axis_leaves_out_what_has_no_logarithm() -> None:
    plot = Plot([Series("a", [(1.0, 0.0), (2.0, 0.1), (3.0, 10.0)], "points")], y_axis=Axis(is_log=True))
    assert sum(line.count("●") for line in await drawn(plot)) == 2


async def test_nothing_to_draw_says_so_and_little_room_too() -> None:
    assert await drawn(Plot(empty="No results yet.")) == ["No results yet."]
    assert await drawn(Plot([Series("a", KLD)]), (10, 14)) == ["There is no room for the plot."]


async def test_other_series_replace_the_first() -> None:
    plot = Plot([Series("a", KLD, "points", NAMES)])
    app = PlotApp(plot)
    async with app.run_test(size=(60, 14)) as pilot:
        plot.show([Series("b", [(1.0, 1.0)], "points", ["other"])])
        await pilot.pause()
        text = plot.render().plain
    assert "other" in text
    assert "Q4_K_M" not in text


@pytest.mark.parametrize(
    ("low", "high", "is_log"), [(0, 1, False), (88, 105, False), (-3, 7, False), (0.01, 0.3, True), (1, 1, True)]
)
def test_an_axis_holds_all_its_values(low: float, high: float, is_log: bool) -> None:
    scale = Axis(is_log=is_log).scale([low, high], 5)
    assert scale.share(low) is not None
    assert scale.share(high) is not None
    assert len(scale.ticks) >= 2
    assert all(scale.share(tick) is not None for tick in scale.ticks)


def test_numbers_are_short() -> None:
    assert [short_number(value) for value in (0.05, 12.0, 1500.0, 2.5e6)] == ["0.05", "12", "1.5k", "2.5M"]
