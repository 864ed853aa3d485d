"""One job at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tui.jobs.requests import JobKind, JobRequest, from_json, kind_of, to_json
from tui.jobs.stages import Stage

JobPhase = Literal["queued", "running", "stopping", "done", "failed", "stopped", "interrupted"]
"""stopped: by the user. interrupted: the app ended, or was killed, while it ran."""
ENDED: frozenset[JobPhase] = frozenset({"done", "failed", "stopped", "interrupted"})


@dataclass(frozen=True)
class Job:
    """One job at one moment."""

    id: int
    """Milliseconds since 1970 when it was asked for, so that ids of several runs of the app differ."""
    title: str
    request: JobRequest
    phase: JobPhase = "queued"
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()
    """What is to be known of what is made."""
    result: Mapping[str, Any] | None = None
    """Where it is done: see `tui.jobs.results`."""
    message: str = ""
    """What went wrong, where it failed."""
    hint: str = ""
    elapsed_s: float = 0.0
    """What it took, once it has ended."""
    began_at_s: float = field(default=0.0, compare=False)
    """By the monotonic clock."""

    @property
    def kind(self) -> JobKind:
        return kind_of(self.request)

    @property
    def has_ended(self) -> bool:
        return self.phase in ENDED

    @property
    def can_resume(self) -> bool:
        """Whether asking for the same again goes on where it was."""
        return self.phase in ("stopped", "interrupted", "failed")


def job_to_json(job: Job) -> dict[str, Any]:
    """Return what is kept of a job."""
    return {
        "id": job.id,
        "title": job.title,
        "request": to_json(job.request),
        "phase": job.phase,
        "notes": list(job.notes),
        "result": job.result,
        "message": job.message,
        "hint": job.hint,
        "elapsed_s": job.elapsed_s,
    }


def job_from_json(values: Mapping[str, Any]) -> Job:
    """Return a job that was kept.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    result = values["result"]
    if not (result is None or isinstance(result, dict)):
        raise ValueError("a result is an object")
    return Job(
        int(values["id"]),
        str(values["title"]),
        from_json(values["request"]),
        values["phase"],
        notes=tuple(map(str, values["notes"])),
        result=result,
        message=str(values["message"]),
        hint=str(values["hint"]),
        elapsed_s=float(values["elapsed_s"]),
    )
