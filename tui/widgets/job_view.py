"""One job: its stages while it runs, what went wrong, or the report and its plot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.jobs import CompareRequest, EvaluateRequest, Job, QuantizeRequest
from tui.jobs.requests import source_of
from tui.jobs.results import points, table
from tui.quantizing.words import duration, size
from tui.widgets.plot import Plot, Series
from tui.widgets.plot_scale import Axis
from tui.widgets.stage_list import StageList

EMPTY = "No jobs yet. Ctrl+N: choose a model and a type, Ctrl+S: start."


class JobView(VerticalScroll):
    """What is to be known of one job."""

    DEFAULT_CSS = """
    JobView {
        padding: 0 1;
        & > Static, & > StageList, & > Plot { display: none; margin-bottom: 1; height: auto; }
        & > .-shown { display: block; }
        & > Plot { height: 1fr; min-height: 13; max-height: 26; }
        & > #job-title { color: $text-muted; }
        & > #job-table { text-wrap: nowrap; }
    }
    """

    def compose(self) -> ComposeResult:
        yield Static("", id="job-title", markup=False)
        yield StageList(id="job-stages")
        yield Static("", id="job-problem", markup=False)
        yield Static("", id="job-made", markup=False)
        yield Static("", id="job-table", markup=False)
        yield Plot(x_axis=Axis("MB"), y_axis=Axis("mean KLD in nats", is_log=True), id="job-plot")
        yield Static("", id="job-notes", markup=False)

    def on_mount(self) -> None:
        self.show(None)

    def show(self, job: Job | None, jobs: Sequence[Job] = ()) -> None:
        """Show a job; the plot has what all jobs found of its model.

        Args:
            job: None: there is none.
            jobs: all.
        """
        self._put("job-title", Content(EMPTY if job is None else _asked(job)))
        is_done = job is not None and job.phase == "done"
        self._put("job-problem", Content("") if job is None else _problem(job))
        self._put("job-made", Content("") if job is None or not is_done else _made(job))
        self._put("job-table", Content("") if job is None or not is_done else _table(table(job)))
        self._put("job-notes", Content("" if job is None else "\n".join(job.notes)).stylize("$text-muted"))
        stages = self.query_one(StageList)
        stages.set_class(job is not None and not is_done and bool(job.stages), "-shown")
        if job is not None:
            stages.show(job)
        series = [] if job is None or not is_done else list(_series(jobs, job))
        plot = self.query_one(Plot)
        plot.set_class(bool(series), "-shown")
        plot.show(series)

    def _put(self, name: str, content: Content) -> None:
        widget = self.query_one(f"#{name}", Static)
        widget.update(content)
        widget.set_class(bool(content.plain), "-shown")


def _asked(job: Job) -> str:
    """Return what was asked for, in a line."""
    request, source = job.request, Path(source_of(job.request)).name
    match request:
        case EvaluateRequest():
            return f"{', '.join(Path(file).name for file in request.files)}, measured against {source}"
        case CompareRequest():
            what = ", ".join(request.types)
        case QuantizeRequest(target_bpw=float(bpw)):
            what = f"At most {bpw:g} bits per weight"
        case QuantizeRequest(target_bytes=int(n_bytes)):
            what = f"At most {size(n_bytes)}"
        case _:
            what = request.type_name
    return f"{what} by {request.method}{', KL-aware' if request.is_kl_aware else ''}, of {source}"


def _problem(job: Job) -> Content:
    match job.phase:
        case "failed":
            return Content.assemble(("✗ ", "$error bold"), job.message, (f"\n{job.hint}" if job.hint else "", ""))
        case "queued":
            return Content("It waits until the job that runs has ended.")
        case "stopping":
            return Content("Stopping…")
        case "stopped":
            return Content("Stopped. r: go on; what was measured so far is used again.")
        case "interrupted":
            return Content("The app ended while this ran. r: go on; what was measured so far is used again.")
        case _:
            return Content("")


def _made(job: Job) -> Content:
    result = job.result or {}
    words = []
    if isinstance(result.get("path"), str):
        words += [
            result["path"],
            "\n",
            size(float(result["n_bytes"])),
            f", {float(result['bpw']):.2f} bits per weight, ",
        ]
    words.append(f"{'in' if words else 'Done in'} {duration(job.elapsed_s)}")
    peak = result.get("peak_bytes")
    if isinstance(peak, int):
        words.append(f", with at most {size(peak)} of memory")
    return Content.assemble(("✓ ", "$success bold"), *words, ".")


def _table(rows: Sequence[Sequence[str]]) -> Content:
    if not rows:
        return Content("")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return Content.assemble((lines[0], "$text-muted"), *(f"\n{line}" for line in lines[1:]))


def _series(jobs: Iterable[Job], job: Job) -> Iterator[Series]:
    found = points(jobs, source_of(job.request))
    for method in dict.fromkeys(point.method for point in found):
        its = [point for point in found if point.method == method]
        yield Series(
            method, [(point.n_bytes / 1e6, point.kld) for point in its], "points", [point.label for point in its]
        )
