"""All jobs, the newest first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.jobs import Job, JobPhase
from tui.jobs.stages import left_s
from tui.quantizing.words import duration

_SIGNS: dict[JobPhase, str] = {
    "queued": "…",
    "running": "▶",
    "stopping": "▶",
    "done": "✓",
    "failed": "✗",
    "stopped": "■",
    "interrupted": "!",
}
_WORDS: dict[JobPhase, str] = {
    "queued": "waits",
    "stopping": "stopping",
    "failed": "failed",
    "stopped": "stopped",
    "interrupted": "interrupted",
}


class JobList(OptionList):
    """All jobs, one line each; the highlighted one is shown below."""

    DEFAULT_CSS = """
    JobList {
        height: auto;
        max-height: 6;
        margin: 0 1;
        border: none;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        background: transparent;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Next job", show=False, id="quantize.next-job"),
        Binding("k", "cursor_up", "Former job", show=False, id="quantize.former-job"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True)

    @property
    def chosen(self) -> int | None:
        """The id of the highlighted job."""
        option = self.highlighted_option
        return None if option is None or option.id is None else int(option.id)

    def show(self, jobs: Sequence[Job], choose: int | None = None) -> None:
        """Show these; the one that was highlighted stays so, unless another is to be."""
        newest_first = list(reversed(jobs))
        wanted = choose if choose is not None else self.chosen
        ids = [job.id for job in newest_first]
        if [option.id for option in self.options] == [str(job_id) for job_id in ids]:
            for job in newest_first:
                self.replace_option_prompt(str(job.id), _line(job))
        else:
            self.clear_options()
            self.add_options(Option(_line(job), id=str(job.id)) for job in newest_first)
        if ids:
            self.highlighted = ids.index(wanted) if wanted in ids else 0


def _line(job: Job) -> Content:
    words = _WORDS.get(job.phase) or (how_far(job) if job.phase == "running" else duration(job.elapsed_s))
    return Content(f"{_SIGNS[job.phase]} {job.title} · {words}")


def how_far(job: Job) -> str:
    """Return how far a job is that runs, in a few letters."""
    stage = next((stage for stage in job.stages if stage.phase == "running"), None)
    if stage is None:
        return "starting"
    left = left_s(job.stages, time.monotonic())
    return stage.title if left is None else f"about {duration(left)} left"
