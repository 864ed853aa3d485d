"""Several reports as one Markdown page: python -m localllm.conformance.compare NAME=REPORT.json … > docs/conformance.md

The reports are those of `localllm doctor --api URL --json REPORT.json`; what failed is listed with what was seen.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localllm.conformance.points import POINTS

Reports = Mapping[str, dict[str, Any]]
"""Name of a server to its report."""

_MARKS = {"passed": "yes", "failed": "**no**", "skipped": "–"}

_HEAD = """# Conformance

What API clients rely on, and whether a server does it: `localllm doctor --api URL` asks it through the official
`openai` and `anthropic` clients, and by hand where they hide what comes. It runs against any OpenAI-compatible server.

    pip install "localllm[doctor]"
    localllm doctor --api http://127.0.0.1:8080

Written by `python -m localllm.conformance.compare` from one report for each server, same model, same machine:
"""


def page(reports: Reports) -> str:
    """Return the whole page."""
    return "\n".join(_lines(reports)) + "\n"


def _lines(reports: Reports) -> Iterator[str]:
    yield _HEAD
    yield "| server | passed | failed | skipped |"
    yield "|---|---|---|---|"
    for name, report in reports.items():
        counts = report["summary"]
        yield f"| {name} | {counts['passed']} | {counts['failed']} | {counts['skipped']} |"
    yield ""
    yield "## By point"
    yield ""
    yield f"| | point | {' | '.join(reports)} |"
    yield f"|---|---|{'---|' * len(reports)}"
    for point, title in POINTS.items():
        cells = [_tally([c for c in report["checks"] if c["point"] == point]) for report in reports.values()]
        yield f"| {point} | {title} | {' | '.join(cells)} |"
    yield ""
    yield "## Every check"
    yield ""
    yield f"| | check | {' | '.join(reports)} |"
    yield f"|---|---|{'---|' * len(reports)}"
    yield from _checks(reports)
    for name, report in reports.items():
        yield from _section(f"Where {name} fails", _of(report, "failed"), _failure)
        yield from _section(f"What does not apply to {name}", _of(report, "skipped"), _skip)


def _tally(checks: Sequence[dict[str, Any]]) -> str:
    counts = Counter(check["outcome"] for check in checks)
    n_asked = counts["passed"] + counts["failed"]
    text = f"{counts['passed']} of {n_asked}" if n_asked else "–"
    return f"**{text}**" if counts["failed"] else text


def _checks(reports: Reports) -> Iterator[str]:
    outcomes = {name: {check["name"]: check["outcome"] for check in r["checks"]} for name, r in reports.items()}
    seen: set[str] = set()
    for check in sorted((c for r in reports.values() for c in r["checks"]), key=lambda c: c["point"]):
        if check["name"] in seen:
            continue
        seen.add(check["name"])
        cells = [_MARKS.get(outcomes[name].get(check["name"], ""), "") for name in reports]
        yield f"| {check['point']} | {_cell(check['title'])} | {' | '.join(cells)} |"


def _of(report: dict[str, Any], outcome: str) -> list[dict[str, Any]]:
    return [check for check in report["checks"] if check["outcome"] == outcome]


def _section(title: str, checks: Sequence[dict[str, Any]], line: Any) -> Iterator[str]:
    if checks:
        yield from ("", f"## {title}", "")
        yield from (line(check) for check in checks)


def _failure(check: dict[str, Any]) -> str:
    return f"- {check['point']}: {check['title']}. Expected {check['expected']}; saw `{_cell(check['seen'], '`')}`"


def _skip(check: dict[str, Any]) -> str:
    return f"- {check['point']}: {check['title']}: {_cell(check['reason'])}"


def _cell(text: str, *forbidden: str) -> str:
    for mark in forbidden:
        text = text.replace(mark, "'")
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """Write the page to stdout; arguments are NAME=FILE."""
    reports = {}
    for argument in arguments:
        name, _, file = argument.partition("=")
        reports[name] = json.loads(Path(file).read_text(encoding="utf-8"))
    sys.stdout.write(page(reports))


if __name__ == "__main__":
    main(sys.argv[1:])
