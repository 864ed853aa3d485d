"""How the workshop looks: nothing chosen, a form that is filled, a job that runs, is done, or has failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Select

from tests.tiny_model import write_tiny_model
from tests.tui.driving import SIZES, screen_text, until
from tui.app import LocalLLM
from tui.jobs import CompareRequest, Job, QuantizeRequest, Stage
from tui.messages import JobChanged
from tui.widgets.job_form import JobForm

SnapCompare = Callable[..., bool]
Prepare = Callable[[Pilot[Any]], Awaitable[None]]
NOW_S = 100.0
SOURCE = "/models/SmolLM2-135M-Instruct-F16.gguf"


def measured(type_name: str, n_bytes: float, bpw: float, perplexity: float, *divergence: float) -> dict[str, Any]:
    named = dict(zip(("kld", "kld_p99", "same_top"), divergence, strict=False))
    return {"type": type_name, "n_bytes": n_bytes, "bpw": bpw, "perplexity": perplexity, **named}


REFERENCE = measured("F16", 270.9e6, 16.1, 13.2)
DONE = Job(
    1,
    "SmolLM2-135M-Instruct-Q4_K_M",
    QuantizeRequest(SOURCE, "/models/SmolLM2-135M-Instruct-Q4_K_M.gguf"),
    "done",
    notes=("Q4_K_M: the blocks of 180 of 272 tensors do not fit; other types do.",),
    result={
        "path": "/models/SmolLM2-135M-Instruct-Q4_K_M.gguf",
        "n_bytes": 105454144,
        "bpw": 6.27,
        "method": "gptq",
        "peak_bytes": 1_400_000_000,
        "files": [REFERENCE, measured("Q4_K_M", 105.4e6, 6.27, 13.6, 0.0268, 0.141, 0.904)],
    },
    elapsed_s=400.0,
)
COMPARED = Job(
    2,
    "SmolLM2-135M-Instruct-F16: Q4_K_M, Q3_K_M, Q2_K",
    CompareRequest(SOURCE, ("Q4_K_M", "Q3_K_M", "Q2_K"), "rtn"),
    "done",
    result={
        "method": "rtn",
        "files": [
            REFERENCE,
            measured("Q4_K_M", 105.4e6, 6.27, 13.9, 0.0533, 0.28, 0.86),
            measured("Q3_K_M", 93.5e6, 5.56, 14.9, 0.1293, 0.65, 0.779),
            measured("Q2_K", 88.2e6, 5.24, 18.9, 0.286, 1.48, 0.689),
        ],
    },
    elapsed_s=55.0,
)
FAILED = Job(
    3,
    "tiny-Q4_K_M",
    QuantizeRequest("/models/tiny.gguf", "/models/tiny-Q4_K_M.gguf"),
    "failed",
    stages=(Stage("load", "done", 1.0), Stage("read", "running", 0.4, "chunk 60 of 174")),
    message="The job's process was ended by signal 9.",
    hint="Memory may have run out: close other models, and resume.",
)
RUNNING = Job(
    4,
    "Qwen2.5-Coder-1.5B-Q4_K_M",
    QuantizeRequest("/models/Qwen2.5-Coder-1.5B.gguf", "/models/Qwen2.5-Coder-1.5B-Q4_K_M.gguf"),
    "running",
    stages=(
        Stage("load", "done", 1.0, elapsed_s=3.0),
        Stage("read", "running", 0.25, "chunk 43 of 174", 400.0, 310.0, 0.0, NOW_S),
        Stage("quantize", expected_s=90.0),
        Stage("measure", expected_s=40.0),
    ),
)
WAITING = Job(5, "Qwen2.5-Coder-1.5B-Q8_0", QuantizeRequest("/models/q.gguf", "/models/p.gguf"))


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch, no_demo: None) -> None:
    """No clock, no disk, no memory and no cores of this machine in the pictures."""
    clock = SimpleNamespace(monotonic=lambda: NOW_S)
    monkeypatch.setattr("tui.widgets.stage_list.time", clock)
    monkeypatch.setattr("tui.widgets.job_list.time", clock)
    monkeypatch.setattr("tui.quantizing.choices._free_bytes", lambda _: 80_000_000_000)
    monkeypatch.setattr("localllm.hardware.available_ram_bytes", lambda: 16_000_000_000)
    monkeypatch.setattr("tui.quantizing.forecast._n_cores", lambda: 4)


def with_jobs(*jobs: Job) -> Prepare:
    async def prepare(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, LocalLLM)
        await pilot.press("f4")
        app.services.jobs._jobs = {job.id: job for job in jobs}
        app.broadcast(JobChanged(jobs[-1].id))
        await pilot.pause()
        await pilot.press("ctrl+l")
        await pilot.pause()

    return prepare


def hide_jobs(app: LocalLLM) -> None:
    """Leave nothing to be stopped at the end."""
    app.services.jobs.close = nothing  # type: ignore[method-assign]


async def nothing() -> None: ...


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_nothing_is_chosen(snap_compare: SnapCompare, app: LocalLLM, size: tuple[int, int]) -> None:
    async def prepare(pilot: Pilot[Any]) -> None:
        await pilot.press("f4")
        await until(pilot, lambda: "Choose a model." in screen_text(app))

    assert snap_compare(app, terminal_size=size, run_before=prepare)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_form_is_filled(snap_compare: SnapCompare, app: LocalLLM, own: Path, size: tuple[int, int]) -> None:
    own.mkdir(parents=True)
    write_tiny_model(own / "tiny-F32.gguf")

    async def prepare(pilot: Pilot[Any]) -> None:
        await pilot.press("f4")
        await until(pilot, lambda: len(app.screen.query_one("#source Select", Select)._options) > 2)
        app.screen.query_one(JobForm).choose("tiny-F32")
        await until(pilot, lambda: "on the disk" in screen_text(app))

    assert snap_compare(app, terminal_size=size, run_before=prepare)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "jobs",
    [(DONE, FAILED, RUNNING), (DONE, COMPARED), (DONE, FAILED), (RUNNING, WAITING)],
    ids=["running", "done", "failed", "waiting"],
)
def test_a_job(snap_compare: SnapCompare, app: LocalLLM, jobs: tuple[Job, ...], size: tuple[int, int]) -> None:
    hide_jobs(app)
    assert snap_compare(app, terminal_size=size, run_before=with_jobs(*jobs))
