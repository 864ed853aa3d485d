"""Jobs: a process each, one at a time; whatever becomes of the process, the job ends and says how."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tui.jobs import Job, Jobs, QuantizeRequest

SCRIPT = (sys.executable, str(Path(__file__).with_name("scripted_jobs.py")))


async def until(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    """Return once the condition holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        await asyncio.sleep(0.02)


def request(script: str) -> QuantizeRequest:
    return QuantizeRequest(f"/models/{script}.gguf", "/models/out.gguf")


@asynccontextmanager
async def jobs_in(folder: Path, *, command: tuple[str, ...] = SCRIPT, stop_s: float = 30.0) -> AsyncIterator[Jobs]:
    jobs = Jobs(lambda _: None, folder, command, stop_s)
    await jobs.load()
    try:
        yield jobs
    finally:
        await jobs.close()


async def ended(jobs: Jobs, job: Job) -> Job:
    def now() -> Job:
        found = jobs.job(job.id)
        assert found is not None
        return found

    await until(lambda: now().has_ended)
    return now()


async def test_a_job_tells_its_stages_its_notes_and_its_result(tmp_path: Path) -> None:
    heard: list[str] = []
    jobs = Jobs(lambda job: heard.append(job.phase), tmp_path, SCRIPT)
    job = await ended(jobs, jobs.start(request("fine"), "fine"))
    assert job.phase == "done"
    assert job.notes == ("One tensor is odd.",)
    assert [(stage.key, stage.phase) for stage in job.stages] == [
        ("load", "done"),
        ("read", "done"),
        ("quantize", "done"),
    ]
    assert job.result is not None
    assert job.result["bpw"] == 4.5
    assert heard[0] == "queued"
    assert heard[1] == "running"
    assert heard[-1] == "done"
    await jobs.close()


async def test_an_error_is_the_jobs_message_and_hint(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        job = await ended(jobs, jobs.start(request("fail"), "fail"))
    assert (job.phase, job.message, job.hint) == ("failed", "It is quantized already.", "Take a 16-bit file.")


async def test_a_crash_is_a_failure_with_the_last_words(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        job = await ended(jobs, jobs.start(request("crash"), "crash"))
    assert job.phase == "failed"
    assert "signal 9" in job.message
    assert "GGML_ASSERT(false)" in job.message
    assert "Memory" in job.hint


async def test_a_process_that_cannot_be_started_is_a_failure(tmp_path: Path) -> None:
    async with jobs_in(tmp_path, command=(str(tmp_path / "nothing"),)) as jobs:
        job = await ended(jobs, jobs.start(request("fine"), "fine"))
    assert job.phase == "failed"
    assert "cannot be started" in job.message


async def test_what_is_no_json_is_passed_over(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        assert (await ended(jobs, jobs.start(request("garbage"), "garbage"))).phase == "done"


async def test_a_second_job_waits_for_the_first(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        first, second = jobs.start(request("wait"), "first"), jobs.start(request("fine"), "second")
        assert (first.phase, second.phase) == ("running", "queued")
        await until(lambda: jobs.job(first.id).stages)  # type: ignore[union-attr]
        assert jobs.running is not None
        assert jobs.running.id == first.id
        jobs.cancel(first.id)
        assert (await ended(jobs, second)).phase == "done"
        assert (await ended(jobs, first)).phase == "stopped"


async def test_a_job_that_waits_can_be_stopped_before_it_begins(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        first, second = jobs.start(request("wait"), "first"), jobs.start(request("fine"), "second")
        jobs.cancel(second.id)
        assert (await ended(jobs, second)).phase == "stopped"
        jobs.cancel(first.id)
        assert (await ended(jobs, first)).phase == "stopped"


async def test_a_process_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    async with jobs_in(tmp_path, stop_s=0.1) as jobs:
        job = jobs.start(request("deaf"), "deaf")
        await until(lambda: jobs.job(job.id).stages)  # type: ignore[union-attr]
        jobs.cancel(job.id)
        assert (await ended(jobs, job)).phase == "stopped"


async def test_a_job_that_was_stopped_is_resumed_as_a_new_one(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        job = jobs.start(request("wait"), "title")
        jobs.cancel(job.id)
        await ended(jobs, job)
        again = jobs.resume(job.id)
        assert again is not None
        assert (again.title, again.request, again.phase) == (job.title, job.request, "running")
        assert jobs.job(job.id) is None
        assert jobs.resume(again.id) is None


async def test_quitting_interrupts_and_the_next_run_knows(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        first, second = jobs.start(request("wait"), "first"), jobs.start(request("fine"), "second")
        await until(lambda: jobs.job(first.id).stages)  # type: ignore[union-attr]
    assert not jobs.unfinished
    async with jobs_in(tmp_path) as later:
        assert [(job.id, job.phase) for job in later.jobs] == [(first.id, "interrupted"), (second.id, "interrupted")]


async def test_a_job_whose_app_was_killed_is_interrupted_and_that_of_a_living_one_is_left_alone(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        first = await ended(jobs, jobs.start(request("fine"), "fine"))
        other = await ended(jobs, jobs.start(request("fine"), "fine"))
    rewrite(tmp_path, first.id, phase="running", owner=[2**22 + 5, 1.0])
    rewrite(tmp_path, other.id, phase="running", owner=owner_of(os.getppid()))
    later = Jobs(lambda _: None, tmp_path, SCRIPT)
    assert [job.id for job in await later.load()] == [first.id]
    assert [job.id for job in later.jobs] == [first.id]


async def test_damaged_files_of_jobs_are_passed_over(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        job = await ended(jobs, jobs.start(request("fine"), "fine"))
    (tmp_path / "1.json").write_text("{")
    (tmp_path / "2.json").write_text("[]")
    (tmp_path / "3.json").write_text(json.dumps({"id": 3, "request": {"kind": "cook"}}))
    later = Jobs(lambda _: None, tmp_path, SCRIPT)
    assert await later.load() == ()
    assert [kept.id for kept in later.jobs] == [job.id]
    assert later.jobs[0].result == job.result


async def test_a_forgotten_job_does_not_come_back(tmp_path: Path) -> None:
    async with jobs_in(tmp_path) as jobs:
        job = await ended(jobs, jobs.start(request("fine"), "fine"))
        jobs.forget(job.id)
        assert jobs.jobs == ()
    later = Jobs(lambda _: None, tmp_path, SCRIPT)
    await later.load()
    assert later.jobs == ()


def rewrite(folder: Path, job_id: int, **changes: object) -> None:
    path = folder / f"{job_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def owner_of(pid: int) -> list[float]:
    import psutil

    return [pid, psutil.Process(pid).create_time()]
