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

_SIGNS: dict[JobPhase, tuple[str, str]] = {
    "queued": ("…", "$text-muted"),
    "running": ("▶", "$primary"),
    "stopping": ("▶", "$text-muted"),
    "done": ("✓", "$success"),
    "failed": ("✗", "$error"),
    "stopped": ("■", "$warning"),
    "interrupted": ("!", "$warning"),
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
        max-height: 8;
        border: none;
        padding: 0;
        background: transparent;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
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
    sign, style = _SIGNS[job.phase]
    words = _WORDS.get(job.phase) or (how_far(job) if job.phase == "running" else duration(job.elapsed_s))
    return Content.assemble((f"{sign} ", style), (f"{job.title}  ", ""), (words, "$text-muted"))


def how_far(job: Job) -> str:
    """Return what a job that runs is doing, in a few words."""
    stage = next((stage for stage in job.stages if stage.phase == "running"), None)
    if stage is None:
        return "starting"
    share = "" if stage.share is None else f" {stage.share:.0%}"
    left = left_s(job.stages, time.monotonic())
    return f"{stage.title}{share}" + (f" · about {duration(left)} left" if left is not None else "")
