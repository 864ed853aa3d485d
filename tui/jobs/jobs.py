"""The jobs of this app: one runs at a time, in a process of its own, and the others wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from localllm import paths
from tui.jobs.job import Job
from tui.jobs.kept_jobs import KeptJobs
from tui.jobs.requests import JobRequest, to_json
from tui.jobs.stages import Stage, advance, ended

WORKER = (sys.executable, "-P", "-m", "tui.jobs.worker")
STOP_S = 10.0
"""How long a process may take to stop before it is killed."""
_MAX_LINE_BYTES = 4 << 20
_N_LAST_WORDS = 5
"""Lines of what a process said before it crashed."""


class Jobs:
    """Starts and stops jobs. All methods are called on the interface's thread.

    Args:
        changed: called with a job that is new, went on or ended.
        folder: where jobs are kept; None: in the app's data.
        command: the worker's process. Tests script one.
        stop_s: how long one may take to stop.
    """

    def __init__(
        self,
        changed: Callable[[Job], None] = lambda _: None,
        folder: Path | None = None,
        command: Sequence[str] = WORKER,
        stop_s: float = STOP_S,
    ) -> None:
        self._changed = changed
        self._folder = folder
        self._command = tuple(command)
        self._stop_s = stop_s
        self._jobs: dict[int, Job] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopped_by_user = True
        self._kept: KeptJobs | None = None
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All jobs, the oldest first."""
        return tuple(self._jobs.values())

    @property
    def running(self) -> Job | None:
        """The job that has a process."""
        return next((job for job in self._jobs.values() if job.phase in ("running", "stopping")), None)

    @property
    def unfinished(self) -> tuple[Job, ...]:
        """Those that run or wait."""
        return tuple(job for job in self._jobs.values() if not job.has_ended)

    @property
    def texts(self) -> tuple[str, ...]:
        """What goes on, for a line that is seen everywhere: "F4 43 %"."""
        job = self.running
        stage = None if job is None else next((stage for stage in job.stages if stage.phase == "running"), None)
        if job is None:
            return ()
        return ("F4 …" if stage is None or stage.share is None else f"F4 {100 * stage.share:.0f} %",)

    def job(self, job_id: int) -> Job | None:
        """Return a job as it is now."""
        return self._jobs.get(job_id)

    async def load(self) -> tuple[Job, ...]:
        """Read what was kept, and return the jobs that were interrupted."""
        kept = await asyncio.to_thread(lambda: self._kept_jobs().read())
        self._jobs = {**{job.id: job for job in kept}, **self._jobs}
        for job in kept:
            self._changed(job)
        return tuple(job for job in kept if job.phase == "interrupted")

    def start(self, request: JobRequest, title: str, stages: Sequence[Stage] = ()) -> Job:
        """Begin a job, or have it wait until the one that runs has ended."""
        job_id = max(int(time.time() * 1000), *(known + 1 for known in self._jobs), 0)
        job = Job(job_id, title, request, stages=tuple(stages))
        self._set(job, keep=True)
        self._begin_next()
        return self._jobs[job_id]

    def resume(self, job_id: int) -> Job | None:
        """Ask for the same again, which goes on where it was; the former one is forgotten."""
        job = self._jobs.get(job_id)
        if job is None or not job.can_resume:
            return None
        self.forget(job_id)
        waiting = tuple(Stage(stage.key, expected_s=stage.expected_s) for stage in job.stages)
        return self.start(job.request, job.title, waiting)

    def cancel(self, job_id: int) -> None:
        """Stop a job; what was measured so far stays for `resume`."""
        job = self._jobs.get(job_id)
        if job is not None and job.phase == "queued":
            self._set(replace(job, phase="stopped"), keep=True)
        elif job is not None and job.phase == "running":
            self._stop(job, by_user=True)

    def forget(self, job_id: int) -> None:
        """Leave a job that has ended out of the list; files that it made stay."""
        job = self._jobs.get(job_id)
        if job is not None and job.has_ended:
            del self._jobs[job_id]
            self._write(lambda kept: kept.delete(job_id))
            self._changed(job)

    async def close(self) -> None:
        """Stop what runs; what did not end is interrupted, and can be resumed in the next run of the app."""
        for job in self.unfinished:
            if job.phase == "queued":
                self._set(replace(job, phase="interrupted"), keep=True)
        running = self.running
        if running is not None and running.phase == "running":
            self._stop(running, by_user=False)
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._writes:
            await asyncio.wait(set(self._writes))

    def _begin_next(self) -> None:
        job = next((job for job in self._jobs.values() if job.phase == "queued"), None)
        if job is None or self.running is not None:
            return
        self._is_stopped_by_user = True
        self._set(replace(job, phase="running", began_at_s=time.monotonic()), keep=True)
        self._task = asyncio.create_task(self._run(job.id))

    async def _run(self, job_id: int) -> None:
        pipe = asyncio.subprocess.PIPE
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=pipe, limit=_MAX_LINE_BYTES
            )
        except OSError as error:
            self._end(job_id, {"error": {"message": f"The job's process cannot be started: {error.strerror}."}})
            return
        assert process.stdin and process.stdout and process.stderr
        last_words = asyncio.create_task(_last_lines(process.stderr))
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(to_json(self._jobs[job_id].request)).encode() + b"\n")
            await process.stdin.drain()
        if self._jobs[job_id].phase == "stopping":
            process.stdin.close()
        end: dict[str, Any] | None = None
        async for line in process.stdout:
            told = _parsed(line)
            if "result" in told or "error" in told or "stopped" in told:
                end = told
            elif told:
                self._told(job_id, told)
        code = await process.wait()
        self._process = None
        self._end(job_id, end or _crash(code, await last_words))

    def _told(self, job_id: int, told: dict[str, Any]) -> None:
        job = self._jobs[job_id]
        if "note" in told:
            self._set(replace(job, notes=(*job.notes, str(told["note"]))))
        elif "stage" in told:
            self._set(replace(job, stages=advance(job.stages, told, time.monotonic())))

    def _end(self, job_id: int, told: dict[str, Any]) -> None:
        job, now_s = self._jobs[job_id], time.monotonic()
        job = replace(job, elapsed_s=now_s - job.began_at_s)
        if "result" in told:
            stages = tuple(ended(stage, now_s) for stage in job.stages)
            job = replace(job, phase="done", result=told["result"], stages=stages)
        elif job.phase == "stopping" or "stopped" in told:
            job = replace(job, phase="stopped" if self._is_stopped_by_user else "interrupted")
        else:
            error = told["error"]
            job = replace(job, phase="failed", message=str(error["message"]), hint=str(error.get("hint") or ""))
        self._task = None
        self._set(job, keep=True)
        self._begin_next()

    def _stop(self, job: Job, *, by_user: bool) -> None:
        self._is_stopped_by_user = by_user
        self._set(replace(job, phase="stopping"))
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            asyncio.get_running_loop().call_later(self._stop_s, _kill, process)

    def _set(self, job: Job, *, keep: bool = False) -> None:
        self._jobs[job.id] = job
        if keep:
            self._write(lambda kept: kept.put(job))
        self._changed(job)

    def _write(self, write: Callable[[KeptJobs], None]) -> None:
        """Change what is kept, on another thread, in the order in which it was asked for."""

        async def later() -> None:
            async with self._writing:
                await asyncio.to_thread(lambda: write(self._kept_jobs()))

        task = asyncio.create_task(later())
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def _kept_jobs(self) -> KeptJobs:
        if self._kept is None:
            self._kept = KeptJobs(self._folder or paths.data_dir() / "jobs")
        return self._kept


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _last_lines(stream: asyncio.StreamReader) -> list[str]:
    lines: list[str] = []
    with contextlib.suppress(ValueError):
        async for line in stream:
            lines = [*lines, line.decode(errors="replace").rstrip()][-_N_LAST_WORDS:]
    return lines


def _parsed(line: bytes) -> dict[str, Any]:
    """Return a line of the worker's; an empty dict for what is none."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _crash(code: int, last_words: Sequence[str]) -> dict[str, Any]:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    said = f" It said: {' '.join(last_words)}" if last_words else ""
    hint = "Memory may have run out: close other models, and resume." if code == -9 else "Resume to try again."
    return {"error": {"message": f"The job's process {how}.{said}", "hint": hint}}
