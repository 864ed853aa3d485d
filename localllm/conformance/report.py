"""The result of a run, as text for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from localllm.conformance.check import Outcome, Result
from localllm.conformance.points import POINTS

_MARKS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "skipped": "–"}
_STYLES: dict[Outcome, str] = {"passed": "green", "failed": "red", "skipped": "yellow"}


@dataclass(frozen=True)
class Report:
    """A run against one server.

    Attributes:
        url: the server's address.
        model: the name that was asked for.
        results: in the order of the points.
    """

    url: str
    model: str
    results: Sequence[Result]

    def count(self, outcome: Outcome) -> int:
        """Return how many checks ended so."""
        return sum(result.outcome == outcome for result in self.results)

    @property
    def is_conformant(self) -> bool:
        """Whether nothing failed."""
        return self.count("failed") == 0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; durations in seconds."""
        return {
            "url": self.url,
            "model": self.model,
            "summary": {outcome: self.count(outcome) for outcome in _MARKS},
            "points": [
                {"point": point, "title": POINTS[point], "outcomes": dict(Counter(r.outcome for r in results))}
                for point, results in self.by_point()
            ],
            "checks": [_check_json(result) for result in self.results],
        }

    def by_point(self) -> Iterator[tuple[int, list[Result]]]:
        """Yield each point with its results."""
        for point, results in groupby(self.results, key=lambda result: result.check.point):
            yield point, list(results)


def _check_json(result: Result) -> dict[str, Any]:
    words = {"expected": result.expected, "seen": result.seen, "reason": result.reason}
    return {
        "name": result.check.name,
        "point": result.check.point,
        "title": result.check.title,
        "outcome": result.outcome,
        **{name: text for name, text in words.items() if text},
        "duration_s": round(result.duration_s, 3),
    }


@dataclass(frozen=True)
class Line:
    """A line of the report, with the colour it has in a terminal."""

    text: str
    style: str = ""


def point_line(point: int) -> Line:
    """Return the heading of a point."""
    return Line(f"{point:2d}  {POINTS[point]}", "bold")


def result_lines(result: Result, *, verbose: bool) -> list[Line]:
    """Return what there is to say of a check; of one that passed or was skipped only where `verbose`."""
    mark = f"    {_MARKS[result.outcome]} {result.check.title}"
    style = _STYLES[result.outcome]
    if result.outcome == "failed":
        return [
            Line(mark, style),
            Line(f"        expected {result.expected}"),
            Line(f"        saw {result.seen}"),
            *([Line(f"        {result.check.why}", "dim")] if result.check.why and verbose else []),
        ]
    if result.outcome == "skipped":
        return [Line(mark, style), Line(f"        {result.reason}", "dim")] if verbose else []
    return [Line(mark, style)] if verbose else []


def tally_line(results: Sequence[Result]) -> Line:
    """Return how the checks of a point ended: `12 passed, 1 failed, 2 skipped (the model does not think)`."""
    counts = Counter(result.outcome for result in results)
    reasons = Counter(result.reason for result in results if result.reason)
    words = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _MARKS if counts[outcome])
    text = f"      {words}" + (f" ({reasons.most_common(1)[0][0]})" if reasons else "")
    return Line(text, "red" if counts["failed"] else "green" if counts["passed"] else "yellow")


def summary_lines(report: Report) -> list[Line]:
    """Return the end of the report."""
    failed_points = [point for point, results in report.by_point() if any(r.outcome == "failed" for r in results)]
    words = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in _MARKS)
    lines = [Line(f"{report.url}  {report.model}: {words}", "green" if report.is_conformant else "red")]
    if failed_points:
        lines.append(Line(f"Points that clients cannot rely on here: {', '.join(map(str, failed_points))}"))
    return lines
