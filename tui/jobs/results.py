"""What came of jobs: files that were measured, as a table, and as points of size against divergence.

A result has "files" (name, type, n_bytes, bpw, perplexity, and, of all but the first, kld, kld_p99, same_top; speeds
where they were measured), "method" where files were made, "path" where one was kept, "elapsed_s" and "peak_bytes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tui.jobs.job import Job
from tui.jobs.requests import source_of

NOTHING = "–"


@dataclass(frozen=True)
class SizePoint:
    """A file among others of the same model."""

    method: str
    label: str
    n_bytes: int
    kld: float
    """Mean KL divergence from the model, in nats."""


def files_of(job: Job) -> list[Mapping[str, Any]]:
    """Return what was measured, the reference first."""
    files = (job.result or {}).get("files")
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def points(jobs: Iterable[Job], source: str) -> list[SizePoint]:
    """Return all files that were measured against this source, each once: what was found last counts."""
    found: dict[tuple[str, str, int], SizePoint] = {}
    for job in jobs:
        if job.phase == "done" and source_of(job.request) == source:
            for point in _points_of(job):
                found[point.method, point.label, point.n_bytes] = point
    return sorted(found.values(), key=lambda point: point.n_bytes)


def table(job: Job) -> list[tuple[str, ...]]:
    """Return the head and the rows of what was measured, without columns that are empty."""
    files = files_of(job)
    columns = [(title, *(cell(file) for file in files)) for title, cell in _COLUMNS]
    kept = [column for column in columns if any(cell != NOTHING for cell in column[1:])]
    return list(zip(*kept, strict=True)) if files else []


def _points_of(job: Job) -> Iterator[SizePoint]:
    method = str((job.result or {}).get("method") or "measured")
    if getattr(job.request, "is_kl_aware", False):
        method += " KL-aware"
    for file in files_of(job):
        kld = file.get("kld")
        if isinstance(kld, int | float) and kld > 0:
            yield SizePoint(method, str(file.get("type", "")), int(file.get("n_bytes", 0)), float(kld))


def _cell(key: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(file: Mapping[str, Any]) -> str:
        value = file.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return NOTHING
        return format(value, form)

    return cell


def _megabytes(file: Mapping[str, Any]) -> str:
    n_bytes = file.get("n_bytes")
    return f"{n_bytes / 1e6:,.1f}" if isinstance(n_bytes, int | float) else NOTHING


_COLUMNS: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("type", lambda file: str(file.get("type", NOTHING))),
    ("MB", _megabytes),
    ("bits", _cell("bpw", ".2f")),
    ("perplexity", _cell("perplexity", ".3f")),
    ("mean KLD", _cell("kld", ".4f")),
    ("99 %", _cell("kld_p99", ".3f")),
    ("same top", _cell("same_top", ".1%")),
    ("prompt/s", _cell("prompt_tok_s", ".0f")),
    ("tok/s", _cell("generation_tok_s", ".1f")),
)
