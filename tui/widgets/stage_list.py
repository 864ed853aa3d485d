"""The stages of a job, each with how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

from textual.content import Content
from textual.widget import Widget

from tui.jobs import Job, Stage
from tui.jobs.stages import left_s
from tui.quantizing.words import duration

_BAR_WIDTH = 20


class StageList(Widget):
    """What is done, what is being done, what is to come; and how long all will take still."""

    DEFAULT_CSS = """
    StageList { height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._job: Job | None = None

    def on_mount(self) -> None:
        self.set_interval(1.0, self._tick)

    def show(self, job: Job) -> None:
        """Show this job's."""
        self._job = job
        self.refresh(layout=True)

    def render(self) -> Content:
        job = self._job
        if job is None:
            return Content("")
        now_s = time.monotonic()
        lines = [line for stage in job.stages for line in _lines(stage, now_s, is_running=not job.has_ended)]
        total_s = left_s(job.stages, now_s) if job.phase == "running" else None
        if total_s is not None:
            lines.append(Content(f"About {duration(total_s)} left in all."))
        return Content("\n").join(lines)

    def _tick(self) -> None:
        if self._job is not None and self._job.phase == "running":
            self.refresh()


def _lines(stage: Stage, now_s: float, *, is_running: bool) -> Iterator[Content]:
    if stage.phase == "done":
        took = f"  {duration(stage.elapsed_s)}" if stage.elapsed_s >= 1 else ""
        yield Content.assemble(("✓ ", "$success"), stage.title, (took, "$text-muted"))
    elif stage.phase == "waiting":
        about = f"  about {duration(stage.expected_s)}" if stage.expected_s else ""
        yield Content.assemble((f"○ {stage.title}{about}", "$text-muted"))
    else:
        yield Content.assemble((f"{'▶' if is_running else '■'} ", "$primary"), (stage.title, "bold"))
        yield Content.assemble(
            "  ", *_bar(stage.share), (_progress(stage, now_s, is_running=is_running), "$text-muted")
        )


def _bar(share: float | None) -> Iterator[tuple[str, str]]:
    n_full = round((share or 0) * _BAR_WIDTH)
    yield "█" * n_full, "$primary"
    yield "░" * (_BAR_WIDTH - n_full), "$text-muted"


def _progress(stage: Stage, now_s: float, *, is_running: bool) -> str:
    left = stage.left_s(now_s) if is_running else None
    words = ["" if stage.share is None else f"{stage.share:.0%}", stage.detail]
    words.append("" if left is None else f"{duration(left)} left")
    return "  " + " · ".join(word for word in words if word)
