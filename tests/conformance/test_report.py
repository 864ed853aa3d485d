"""What a run says to people and to programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localllm.conformance.check import Check, Outcome, Result
from localllm.conformance.compare import main, page
from localllm.conformance.report import Report, result_lines, summary_lines, tally_line


async def _nothing(target: Any) -> None:
    """Pass."""


def result(name: str, outcome: Outcome, point: int = 1, **words: str) -> Result:
    return Result(Check(name, point, f"Claim of {name}", "A reason", _nothing), outcome, **words)


PASSED = result("a.one", "passed")
FAILED = result("a.two", "failed", expected="five", seen="six | seven")
SKIPPED = result("b.three", "skipped", 9, reason="the model does not think")
REPORT = Report("http://here", "small", [PASSED, FAILED, SKIPPED])


def test_only_failures_make_a_server_nonconformant() -> None:
    assert not REPORT.is_conformant
    assert Report("http://here", "small", [PASSED, SKIPPED]).is_conformant


def test_json_has_the_counts_and_every_check() -> None:
    found = REPORT.to_json()
    assert found["summary"] == {"passed": 1, "failed": 1, "skipped": 1}
    assert [(point["point"], point["outcomes"]) for point in found["points"]] == [
        (1, {"passed": 1, "failed": 1}),
        (9, {"skipped": 1}),
    ]
    assert [check["name"] for check in found["checks"]] == ["a.one", "a.two", "b.three"]
    assert (found["checks"][1]["expected"], found["checks"][1]["seen"]) == ("five", "six | seven")
    assert "expected" not in found["checks"][0] and found["checks"][2]["reason"] == "the model does not think"


def test_failures_are_always_shown_and_the_rest_only_if_asked() -> None:
    assert [line.text.strip() for line in result_lines(FAILED, verbose=False)] == [
        "✗ Claim of a.two",
        "expected five",
        "saw six | seven",
    ]
    assert result_lines(PASSED, verbose=False) == result_lines(SKIPPED, verbose=False) == []
    assert len(result_lines(PASSED, verbose=True)) == 1
    assert len(result_lines(SKIPPED, verbose=True)) == 2


def test_a_point_ends_with_its_counts_and_why_checks_were_skipped() -> None:
    assert tally_line([PASSED, FAILED, SKIPPED]).text.strip() == (
        "1 passed, 1 failed, 1 skipped (the model does not think)"
    )


def test_the_summary_names_the_points_that_failed() -> None:
    lines = [line.text for line in summary_lines(REPORT)]
    assert lines[0] == "http://here  small: 1 passed, 1 failed, 1 skipped"
    assert lines[1].endswith(": 1")


def test_the_page_has_a_column_for_each_server() -> None:
    other = Report("http://there", "small", [PASSED, SKIPPED])
    text = page({"ours": REPORT.to_json(), "theirs": other.to_json()})
    assert "| ours | 1 | 1 | 1 |" in text
    assert "| 1 | Shape of streams | **1 of 2** | 1 of 1 |" in text
    assert "| 9 | Reasoning | – | – |" in text
    assert "| 1 | Claim of a.two | **no** |  |" in text
    assert "## Where ours fails" in text and "## Where theirs fails" not in text
    assert "six \\| seven" in text


def test_the_page_is_written_from_files(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(REPORT.to_json()), encoding="utf-8")
    main([f"ours={file}"])
    assert "| ours | 1 | 1 | 1 |" in capsys.readouterr().out
