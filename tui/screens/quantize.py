"""The workshop: making models smaller, comparing types, measuring files; all of it in the background."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Label, OptionList

from tui.jobs import Job
from tui.jobs.stages import expected_stages
from tui.messages import ChatWith, JobChanged, ModelsChanged, ShowModel
from tui.quantizing.sources import find_models
from tui.screens.mode import ModeScreen
from tui.widgets.job_form import JobForm
from tui.widgets.job_list import JobList
from tui.widgets.job_view import JobView


class JobsPanel(Vertical):
    """The list of jobs, and the one that is highlighted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c,enter", "screen.chat", "Chat", id="quantize.chat", tooltip="Chat with what was made"),
        Binding("o", "screen.show_model", "Models", id="quantize.open", tooltip="Show what was made among the models"),
        Binding(
            "r", "screen.again", "Again", id="quantize.again", tooltip="Go on where it was, or with other settings"
        ),
        Binding("x", "screen.stop", "Stop", id="quantize.stop", tooltip="Stop the job; it can go on later"),
        Binding("delete,d", "screen.forget", "Forget", id="quantize.forget", tooltip="Off the list; files stay"),
    ]

    def compose(self) -> ComposeResult:
        yield JobList(id="job-list")
        yield JobView(id="job-view")


class QuantizeScreen(ModeScreen):
    """A form for a new job, and all jobs: beside each other where there is room."""

    MODE = "quantize"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (150, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "Start", id="quantize.start", tooltip="Begin the job"),
        Binding("ctrl+n", "new", "New job", id="quantize.new", tooltip="The form for a new job"),
        Binding("ctrl+l", "jobs", "Jobs", id="quantize.jobs", tooltip="All jobs, and what came of them"),
    ]
    DEFAULT_CSS = """
    QuantizeScreen {
        & #heads { height: 1; padding: 0 1; }
        & #heads Label { margin-right: 3; color: $text-muted; }
        & #heads .-here { color: $text; text-style: bold underline; }
        & #workshop { height: 1fr; }
        & JobForm, & JobsPanel { width: 1fr; height: 1fr; }
        &.-narrow JobsPanel { display: none; }
        &.-narrow.-jobs JobsPanel { display: block; }
        &.-narrow.-jobs JobForm { display: none; }
        &.-wide JobForm { width: 75; border-right: vkey $panel; }
        &.-wide #types { height: 20; max-height: 50%; }
        &.-wide JobList { max-height: 14; }
    }
    """

    def compose_body(self) -> ComposeResult:
        with Horizontal(id="heads"):
            yield Label("New job ^N", id="head-new")
            yield Label("Jobs ^L", id="head-jobs")
        with Horizontal(id="workshop"):
            yield JobForm(id="form")
            yield JobsPanel(id="jobs")

    def on_mount(self) -> None:
        self._show_jobs()
        self._show_side(is_jobs=False)
        self._models_changed()

    async def choose(self, ref: str) -> None:
        """Show the form with this model chosen."""
        self._show_side(is_jobs=False)
        self.query_one(JobForm).choose(ref)

    @on(ModelsChanged)
    def _models_changed(self) -> None:
        self._find_models()

    @on(JobChanged)
    def _job_changed(self) -> None:
        self._show_jobs()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self._show_job()

    @on(JobForm.Started)
    def _started(self, event: JobForm.Started) -> None:
        plan = event.plan
        job = self.services.jobs.start(plan.request, plan.title, expected_stages(plan.forecast.stages_s))
        self.query_one(JobForm).refresh_plan()
        self._show_side(is_jobs=True)
        self._show_jobs(job.id)

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        self.action_chat()

    def action_start(self) -> None:
        self._show_side(is_jobs=False)
        self.query_one(JobForm).start()

    def action_new(self) -> None:
        self._show_side(is_jobs=False)
        self.query_one("#source Select").focus()

    def action_jobs(self) -> None:
        self._show_side(is_jobs=True)

    def action_chat(self) -> None:
        path = self._made()
        if path is not None:
            self.post_message(ChatWith(path))

    def action_show_model(self) -> None:
        path = self._made()
        if path is not None:
            self.post_message(ShowModel(path))

    def action_again(self) -> None:
        job = self._chosen
        if job is None or not job.has_ended:
            return
        if job.can_resume:
            again = self.services.jobs.resume(job.id)
            self._show_jobs(None if again is None else again.id)
        else:
            self._show_side(is_jobs=False)
            self.query_one(JobForm).fill(job.request)

    def action_stop(self) -> None:
        if self._chosen is not None:
            self.services.jobs.cancel(self._chosen.id)

    def action_forget(self) -> None:
        if self._chosen is not None:
            self.services.jobs.forget(self._chosen.id)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        job = self._chosen if self.is_mounted else None
        match action:
            case "chat" | "show_model":
                return job is not None and job.phase == "done" and job.kind == "quantize"
            case "again" | "forget":
                return job is not None and job.has_ended
            case "stop":
                return job is not None and job.phase in ("queued", "running")
            case _:
                return True

    @work(group="models", exclusive=True)
    async def _find_models(self) -> None:
        models = await asyncio.to_thread(find_models, self.services.settings.model_dirs)
        self.query_one(JobForm).set_models(models)

    @property
    def _chosen(self) -> Job | None:
        job_id = self.query_one(JobList).chosen
        return None if job_id is None else self.services.jobs.job(job_id)

    def _made(self) -> str | None:
        """Return the path of the file that the highlighted job made."""
        job = self._chosen
        path = job.result.get("path") if job is not None and job.phase == "done" and job.result else None
        return path if isinstance(path, str) else None

    def _show_side(self, *, is_jobs: bool) -> None:
        self.set_class(is_jobs, "-jobs")
        self.query_one("#head-new").set_class(not is_jobs, "-here")
        self.query_one("#head-jobs").set_class(is_jobs, "-here")
        (self.query_one(JobList) if is_jobs else self.query_one("#types")).focus()

    def _show_jobs(self, choose: int | None = None) -> None:
        jobs = self.services.jobs.jobs
        self.query_one(JobList).show(jobs, choose)
        running = self.services.jobs.running
        n_waiting = len(self.services.jobs.unfinished) - (running is not None)
        words = ["1 running"] if running is not None else []
        words += [f"{n_waiting} waiting"] if n_waiting else []
        self.query_one("#head-jobs", Label).update("Jobs ^L" + (f" · {', '.join(words)}" if words else ""))
        self._show_job()

    def _show_job(self) -> None:
        self.query_one(JobView).show(self._chosen, self.services.jobs.jobs)
        self.refresh_bindings()
