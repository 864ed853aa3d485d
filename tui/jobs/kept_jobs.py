"""Jobs on the disk, one file each, so that several apps at once do not write over each other's."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from localllm.errors import RequestError
from localllm.paths import ensure
from tui.jobs.job import Job, job_from_json, job_to_json

MAX_JOBS = 100
"""The oldest beyond these are forgotten."""


class KeptJobs:
    """The jobs of a folder. A file that is damaged, or cannot be written, is as good as none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = _owner(os.getpid())

    def put(self, job: Job) -> None:
        """Keep a job as it is now."""
        path = self._path(job.id)
        partial = path.with_suffix(f".{os.getpid()}.part")
        with contextlib.suppress(OSError, RequestError):
            ensure(self._folder)
            partial.write_text(json.dumps({**job_to_json(job), "owner": self._owner}), encoding="utf-8")
            partial.replace(path)

    def delete(self, job_id: int) -> None:
        """Forget a job."""
        with contextlib.suppress(OSError):
            self._path(job_id).unlink(missing_ok=True)

    def read(self) -> list[Job]:
        """Return all jobs, the oldest first: those whose app is gone are interrupted, another app's are left out."""
        jobs = sorted(self._read(), key=lambda job: job.id)
        for job in jobs[:-MAX_JOBS]:
            self.delete(job.id)
        return jobs[-MAX_JOBS:]

    def _read(self) -> Iterator[Job]:
        for path in self._folder.glob("*.json"):
            try:
                values = json.loads(path.read_text(encoding="utf-8"))
                job, owner = job_from_json(values), values["owner"]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if job.has_ended:
                yield job
            elif owner == self._owner or owner != _owner(owner[0]):
                job = replace(job, phase="interrupted")
                self.put(job)
                yield job

    def _path(self, job_id: int) -> Path:
        return self._folder / f"{job_id}.json"


def _owner(pid: Any) -> list[float]:
    """Return what tells a process from another that has its number later."""
    import psutil

    try:
        return [pid, psutil.Process(pid).create_time()]
    except (psutil.Error, TypeError, ValueError):
        return []
