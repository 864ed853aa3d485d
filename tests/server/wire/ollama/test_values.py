"""Times, durations and sizes as Ollama writes them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from localllm.server.wire.ollama.values import Duration, parameter_size, parse_duration, tagged, timestamp


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0), (300, 300.0), (0.5, 0.5), (-1, math.inf), (-0.5, math.inf), ("5m", 300.0), ("1h30m", 5400.0),
        ("0", 0.0), ("0s", 0.0), ("10", 10.0), ("-1", math.inf), ("-1m", math.inf), ("300ms", 0.3), ("1.5h", 5400.0),
        ("2h45m30.5s", 9930.5), (" 24h ", 86400.0), ("+5m", 300.0), (10**400, math.inf),
        ("9" * 400, math.inf), (".5s", 0.5), ("250µs", 0.00025),
    ],
)  # fmt: skip
def test_durations_are_numbers_or_texts_of_go(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "m", "5 minutes", "5x", "1h,30m", "--5m", "5m-", True, None, [], "nan", math.nan]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(value)


@given(st.integers(0, 800_000), st.integers(0, 59), st.integers(0, 59))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == pytest.approx(3600 * hours + 60 * minutes + seconds)


def test_a_timestamp_is_in_utc() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-01-02T01:04:05.000678Z"
    assert timestamp(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0"), (999, "999"), (1500, "1.5K"), (134_515_008, "134.5M"), (7_615_616_512, "7.6B")]
)
def test_sizes_are_said_as_people_do(n: int, text: str) -> None:
    assert parameter_size(n) == text


def test_a_name_without_a_tag_gets_one() -> None:
    assert [tagged("a"), tagged("a:7b"), tagged("org/a:latest")] == ["a:latest", "a:7b", "org/a:latest"]
