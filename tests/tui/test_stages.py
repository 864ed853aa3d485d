"""Stages: what a job's lines of progress come to, and how long the rest will take."""

from __future__ import annotations

import pytest

from tui.jobs.stages import Stage, advance, expected_stages, left_s


def phases(stages: tuple[Stage, ...]) -> dict[str, str]:
    return {stage.key: stage.phase for stage in stages}


def test_a_stage_that_begins_ends_those_before_it() -> None:
    stages = expected_stages({"load": 1.0, "read": 100.0, "quantize": 10.0})
    stages = advance(stages, {"stage": "read", "share": 0.5}, 0.0)
    assert phases(stages) == {"load": "done", "read": "running", "quantize": "waiting"}
    stages = advance(stages, {"stage": "quantize", "share": 0.1}, 50.0)
    assert phases(stages) == {"load": "done", "read": "done", "quantize": "running"}
    assert stages[1].elapsed_s == 50.0


def test_a_stage_that_nobody_foretold_stands_where_it_came() -> None:
    stages = advance(expected_stages({"load": 1.0, "quantize": 10.0}), {"stage": "load", "share": 1.0}, 0.0)
    stages = advance(stages, {"stage": "fold", "share": 0.1}, 1.0)
    assert list(phases(stages)) == ["load", "fold", "quantize"]


@pytest.mark.parametrize(
    ("told", "at_s", "expected"),
    [
        ({"stage": "read", "share": 0.25, "left_s": 30.0}, 20.0, 30.0),
        ({"stage": "read", "share": 0.25}, 20.0, 60.0),
        ({"stage": "read", "share": None}, 20.0, 80.0),
    ],
    ids=["it says so itself", "by its share", "as foretold"],
)
def test_the_time_left_of_a_stage(told: dict[str, object], at_s: float, expected: float) -> None:
    stages = advance(expected_stages({"read": 100.0}), {"stage": "read", "share": 0.0}, 0.0)
    stages = advance(stages, told, at_s)
    assert stages[0].left_s(at_s) == pytest.approx(expected)


def test_what_is_to_come_is_corrected_by_how_right_the_forecast_was() -> None:
    stages = advance(expected_stages({"read": 100.0, "quantize": 50.0}), {"stage": "read", "share": 0.1}, 0.0)
    stages = advance(stages, {"stage": "read", "share": 0.5, "left_s": 100.0}, 100.0)
    assert left_s(stages, 100.0) == pytest.approx(100.0 + 2 * 50.0)


def test_nobody_knows_before_anything_runs() -> None:
    assert left_s(expected_stages({"read": 100.0}), 0.0) is None
