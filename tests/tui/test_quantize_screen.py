"""The workshop's screen, by keys alone: real files made of a tiny model, and every state of a scripted job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Select

from localllm.gguf import read_header
from localllm.store.inventory import Inventory
from tests.tiny_model import write_tiny_model
from tests.tui.driving import screen_text, until
from tests.tui.test_jobs import SCRIPT
from tui.app import LocalLLM
from tui.jobs import CompareRequest, EvaluateRequest, Job, Jobs, QuantizeRequest
from tui.jobs.results import table
from tui.messages import QuantizeModel
from tui.screens.confirm_quit import ConfirmQuit
from tui.screens.quantize import QuantizeScreen
from tui.widgets.job_form import JobForm
from tui.widgets.job_list import JobList
from tui.widgets.tick import Tick
from tui.widgets.type_table import TypeTable

WORK_S = 240.0


@pytest.fixture
def source(own: Path, no_demo: None) -> Path:
    """The only model of the store."""
    own.mkdir(parents=True)
    return write_tiny_model(own / "tiny-F32.gguf", n_ctx=4096)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the app was asked to chat with, or to show."""
    said: list[str] = []
    monkeypatch.setattr(
        LocalLLM, "on_chat_with", lambda _, message: said.append(f"chat {Path(message.ref).name}"), raising=False
    )
    monkeypatch.setattr(LocalLLM, "on_show_model", lambda _, message: said.append(f"show {Path(message.ref).name}"))
    return said


@pytest.fixture
def scripted(app: LocalLLM, tmp_path: Path) -> LocalLLM:
    """An app whose jobs do no work."""
    app.services.jobs = Jobs(app.job_changed, tmp_path / "jobs", SCRIPT)
    return app


def form(app: LocalLLM) -> JobForm:
    return app.screen.query_one(JobForm)


def last(app: LocalLLM) -> Job:
    return app.services.jobs.jobs[-1]


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def open_screen(pilot: Pilot[Any], app: LocalLLM) -> None:
    await press(pilot, "f4")
    await until(pilot, lambda: len(app.screen.query_one("#source Select", Select)._options) > 2)


async def choose_source(pilot: Pilot[Any], app: LocalLLM) -> None:
    """Choose the first model of the list."""
    await open_screen(pilot, app)
    await press(pilot, "ctrl+n", "enter", "down", "enter")
    await until(pilot, lambda: "on the disk" in screen_text(app))


async def choose_option(pilot: Pilot[Any], n_down: int) -> None:
    """Choose another of a list that has the focus."""
    await press(pilot, "enter", *["down"] * n_down, "enter")


async def write_in(pilot: Pilot[Any], app: LocalLLM, name: str, text: str) -> None:
    while app.focused is None or app.focused.id != name:
        await press(pilot, "tab")
    await press(pilot, *text)


@pytest.mark.parametrize("method", ["gptq", "rtn"])
async def test_a_model_is_quantized_by_keys_alone(
    app: LocalLLM, source: Path, own: Path, heard: list[str], method: str
) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await choose_source(pilot, app)
        await press(pilot, "tab", "end", "up", "up")
        assert app.screen.query_one(TypeTable).chosen == ("Q4_0",)
        await press(pilot, "tab", "tab")
        if method == "rtn":
            await choose_option(pilot, 1)
        await write_in(pilot, app, "chunks", "2")
        await press(pilot, "ctrl+s")
        await until(pilot, lambda: app.services.jobs.jobs and last(app).has_ended, WORK_S)
        assert last(app).phase == "done", last(app).message
        made = own / "tiny-Q4_0.gguf"
        assert read_header(made).metadata["general.file_type"] == 2
        assert "tiny-Q4_0" in Inventory(()).names()
        text = screen_text(app)
        assert "bits per weight" in text
        assert "perplexity" in text
        assert "same top" in text
        assert "●" in text
        assert last(app).result is not None
        assert last(app).result["method"] == method  # type: ignore[index]
        await press(pilot, "c")
        await press(pilot, "o")
        await press(pilot, "enter")
        assert heard == ["chat tiny-Q4_0.gguf", "show tiny-Q4_0.gguf", "chat tiny-Q4_0.gguf"]
        await press(pilot, "ctrl+n")
        await until(pilot, lambda: "tiny-Q4_0" in str(app.screen.query_one("#source Select", Select)._options))


async def test_types_are_compared_and_measured_files_are_added_to_the_plot(app: LocalLLM, source: Path) -> None:
    async with app.run_test(size=(160, 50)) as pilot:
        await open_screen(pilot, app)
        compared = CompareRequest(str(source), ("Q8_0", "Q4_0"), "rtn")
        job = app.services.jobs.start(compared, "compare")
        await until(pilot, lambda: last(app).has_ended, WORK_S)
        assert last(app).phase == "done", last(app).message
        assert [row[0] for row in table(last(app))] == ["type", "F32", "Q8_0", "Q4_0"]
        assert [stage.key for stage in last(app).stages if stage.key.startswith("quantize")] == [
            "quantize:Q8_0",
            "quantize:Q4_0",
        ]
        noisy = write_tiny_model(source.with_name("noisy.gguf"), n_ctx=4096, noise=0.05)
        app.services.jobs.start(EvaluateRequest(str(source), (str(noisy),)), "evaluate")
        await until(pilot, lambda: last(app).has_ended, WORK_S)
        assert last(app).phase == "done", last(app).message
        assert last(app).id != job.id
        await press(pilot, "ctrl+l", "home")
        text = screen_text(app)
        assert "● rtn" in text
        assert "○ measured" in text


async def test_the_form_says_what_is_wrong_and_start_goes_there(scripted: LocalLLM, source: Path) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot, app)
        assert "! Choose a model." in screen_text(app)
        await press(pilot, "ctrl+s")
        assert app.focused is app.screen.query_one("#source Select")
        assert not app.services.jobs.jobs
        await press(pilot, "enter", "down", "enter")
        for name, text, problem in (
            ("target", "small", "Give a size such as 1.2GB"),
            ("texts", "nowhere.txt", "There is no file nowhere.txt."),
            ("chunks", "0", "Chunks are a number"),
        ):
            await write_in(pilot, app, name, text)
            await until(pilot, lambda problem=problem: problem in screen_text(app))
            app.set_focus(None)
            await press(pilot, "ctrl+s")
            assert app.focused is not None
            assert app.focused.id == name
            await press(pilot, *["backspace"] * len(text))
        await write_in(pilot, app, "output", "x")
        await until(pilot, lambda: "must end in .gguf" in screen_text(app))


async def test_a_file_that_is_there_is_replaced_only_if_ticked(scripted: LocalLLM, source: Path) -> None:
    app = scripted
    source.with_name("tiny-Q4_K_M.gguf").write_bytes(b"mine")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot, app)
        form(app).choose(str(source))
        await until(pilot, lambda: "is there already" in screen_text(app))
        app.screen.query_one("#replace", Tick).focus()
        await press(pilot, "space")
        await until(pilot, lambda: "on the disk" in screen_text(app))
        await press(pilot, "ctrl+s")
        request = last(app).request
        assert isinstance(request, QuantizeRequest)
        assert request.may_replace


async def test_a_quantized_source_must_be_allowed(scripted: LocalLLM, tmp_path: Path, no_demo: None) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f4")
        form(app).choose(str(quantized(tmp_path)))
        await until(pilot, lambda: "quantized already" in screen_text(app))
        app.screen.query_one("#requantize", Tick).focus()
        await press(pilot, "space")
        await until(pilot, lambda: "on the disk" in screen_text(app))


async def test_models_may_be_given_by_path(scripted: LocalLLM, source: Path, tmp_path: Path) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot, app)
        await press(pilot, "ctrl+n", "enter", "end", "enter", "tab", *str(tmp_path / "no.gguf"))
        await until(pilot, lambda: "! " in screen_text(app) and "no.gguf" in screen_text(app).split("! ")[1])
        folder = tmp_path / "model"
        folder.mkdir()
        form(app).choose(str(folder))
        await until(pilot, lambda: "no config.json" in screen_text(app))


async def test_a_message_preselects_a_model(scripted: LocalLLM, source: Path) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.screen.post_message(QuantizeModel("tiny-F32"))
        await until(pilot, lambda: isinstance(app.screen, QuantizeScreen))
        await until(pilot, lambda: "on the disk" in screen_text(app))
        assert "tiny-F32" in screen_text(app)


async def test_several_types_are_ticked_with_space(scripted: LocalLLM, source: Path) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await choose_source(pilot, app)
        await press(pilot, "shift+tab")
        await choose_option(pilot, 1)
        assert form(app).kind == "compare"
        app.screen.query_one(TypeTable).focus()
        await press(pilot, "home", "space")
        assert app.screen.query_one(TypeTable).chosen == ("Q3_K_M", "Q2_K")
        await until(pilot, lambda: "on the disk" in screen_text(app))
        await press(pilot, "ctrl+s")
        request = last(app).request
        assert isinstance(request, CompareRequest)
        assert request.types == ("Q3_K_M", "Q2_K")


async def test_two_files_are_chosen_to_be_measured(scripted: LocalLLM, source: Path, tmp_path: Path) -> None:
    app = scripted
    other = write_tiny_model(tmp_path / "other.gguf", seed=1)
    async with app.run_test(size=(80, 24)) as pilot:
        await choose_source(pilot, app)
        await press(pilot, "shift+tab")
        await choose_option(pilot, 2)
        assert form(app).kind == "evaluate"
        await until(pilot, lambda: "Choose the file to measure." in screen_text(app))
        await press(pilot, "tab", "tab", "enter", "end", "enter", "tab", *str(other))
        await until(pilot, lambda: "About" in screen_text(app))
        await press(pilot, "ctrl+s")
        assert last(app).request == EvaluateRequest(str(source), (str(other),))


async def test_jobs_are_stopped_resumed_and_forgotten_by_keys(scripted: LocalLLM) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f4", "ctrl+l")
        assert "No jobs yet." in screen_text(app)
        app.services.jobs.start(QuantizeRequest("/models/wait.gguf", "/models/out.gguf"), "the job")
        await until(pilot, lambda: "chunk 1 of 4" in screen_text(app))
        assert "25%" in screen_text(app)
        assert "Jobs ^L · 1 running" in screen_text(app)
        await press(pilot, "x")
        await until(pilot, lambda: last(app).phase == "stopped")
        assert "r: go on" in screen_text(app)
        await press(pilot, "r")
        await until(pilot, lambda: last(app).phase == "running" and "chunk 1 of 4" in screen_text(app))
        await press(pilot, "x")
        await until(pilot, lambda: last(app).phase == "stopped")
        await press(pilot, "d")
        assert app.services.jobs.jobs == ()
        assert "No jobs yet." in screen_text(app)


async def test_again_of_a_job_that_is_done_fills_the_form(scripted: LocalLLM, source: Path) -> None:
    app = scripted
    asked = QuantizeRequest(str(source), "/models/out.gguf", "Q5_K_M", None, 4.5, "rtn", n_chunks=7)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_screen(pilot, app)
        app.services.jobs.start(asked, "the job")
        await until(pilot, lambda: last(app).phase == "done")
        await press(pilot, "ctrl+l", "r")
        await until(pilot, lambda: app.screen.query_one(TypeTable).chosen == ("Q5_K_M",))
        assert app.screen.query_one("#target", Input).value == "4.5"
        assert app.screen.query_one("#chunks", Input).value == "7"
        assert app.screen.query_one("#method", Select).value == "rtn"


async def test_a_failure_is_said_in_place_and_in_a_notice(scripted: LocalLLM) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await press(pilot, "f4", "ctrl+l")
        app.services.jobs.start(QuantizeRequest("/models/fail.gguf", "/models/out.gguf"), "[red]the job[/red]")
        await until(pilot, lambda: last(app).phase == "failed")
        text = screen_text(app)
        assert "✗ It is quantized already." in text
        assert "Take a 16-bit file." in text
        assert "[red]the job[/red]" in text
        assert any("Failed" in notice.message for notice in app._notifications)


async def test_quitting_asks_while_a_job_runs(scripted: LocalLLM) -> None:
    app = scripted
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.services.jobs.start(QuantizeRequest("/models/wait.gguf", "/models/out.gguf"), "the job")
        await until(pilot, lambda: last(app).stages)
        await press(pilot, "ctrl+q")
        assert isinstance(app.screen, ConfirmQuit)
        assert "the job" in screen_text(app)
        await press(pilot, "n")
        assert not isinstance(app.screen, ConfirmQuit)
        assert last(app).phase == "running"
        await press(pilot, "ctrl+q", "y")
        await until(pilot, lambda: not app.is_running or app._exit)
    assert last(app).phase == "interrupted"


async def test_an_interrupted_job_is_told_of_at_the_next_start(
    make_app: Callable[[], LocalLLM], tmp_path: Path
) -> None:
    first, second = make_app(), make_app()
    for app in (first, second):
        app.services.jobs = Jobs(app.job_changed, tmp_path / "jobs", SCRIPT)
    async with first.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        first.services.jobs.start(QuantizeRequest("/models/wait.gguf", "/models/out.gguf"), "the job")
        await until(pilot, lambda: last(first).stages)
    async with second.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: second._notifications)
        assert any("Interrupted: the job" in notice.message for notice in second._notifications)
        await press(pilot, "f4", "ctrl+l")
        assert "The app ended while this ran." in screen_text(second)
        assert second.screen.query_one(JobList).chosen == last(second).id
        await press(pilot, "r")
        await until(pilot, lambda: last(second).phase == "running")


def quantized(folder: Path) -> Path:
    """Make a quantized file, without a model that reads."""
    from localllm.quantize import Rtn, Workers, file_type, plan_mix, quantize

    header = read_header(write_tiny_model(folder / "plain.gguf"))
    with Workers(1) as workers:
        made = quantize(header, folder / "small.gguf", plan_mix(header, file_type("Q8_0")), Rtn(workers, None))
    return made.path
