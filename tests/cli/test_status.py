"""The status line where stderr is no terminal: quiet, or a line of its own now and then."""

from __future__ import annotations

import pytest

from localllm.cli import status
from localllm.cli.status import StatusLine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    return now


def test_short_work_says_nothing_where_nobody_watches(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    line = StatusLine()
    clock[0] = 1000.0
    line.show("half")
    line.clear()
    assert capsys.readouterr().err == ""


def test_long_work_is_logged_once_in_a_while(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    line = StatusLine(60.0)
    for second in range(0, 150, 10):
        clock[0] = float(second)
        line.show(f"{second} of 150")
    line.clear()
    assert capsys.readouterr().err == "60 of 150\n120 of 150\n"
