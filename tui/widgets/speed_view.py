"""How fast models are here: measuring one, and all that was measured before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Select, Static

from localllm.printable import harmless
from tui.figures import rate
from tui.machine.history import SpeedRun
from tui.widgets.plot import Plot, Series
from tui.widgets.plot_scale import Axis

_COLUMNS = {"when": 16, "model": 20, "type": 7, "reads": 7, "writes": 7, "version": 8, "machine": 52}
"""Columns and their widths: fixed, so that nothing jumps while figures change."""
_RIGHT = (3, 4)
_MAX_NAME, _MAX_MACHINE = 20, 40


class SpeedView(Vertical):
    """A model to choose, how far its measurement is, and the history as a table and a plot."""

    DEFAULT_CSS = """
    SpeedView Select {
        height: 1;
    }
    SpeedView #speed-status {
        height: auto;
        color: $text-muted;
    }
    SpeedView #speed-status.-bad {
        color: $error;
    }
    SpeedView DataTable {
        height: 1fr;
        background: $background;
    }
    SpeedView Plot {
        height: 1fr;
        max-height: 12;
    }
    """

    def compose(self) -> ComposeResult:
        yield Select[str]((), prompt="Choose a model to measure", id="speed-model", compact=True)
        yield Static("b measures the chosen model: tokens a second, reading and writing.", id="speed-status")
        yield DataTable[Text](id="speed-table", cursor_type="row")
        yield Plot(
            x_axis=Axis("run", number=lambda n: f"{n:.0f}" if n.is_integer() else ""),
            y_axis=Axis("tokens/s", low=0.0),
            empty="No measurement yet.",
            id="speed-plot",
        )

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        for column, width in _COLUMNS.items():
            table.add_column(column, width=width)

    @property
    def chosen(self) -> str | None:
        """The model to measure."""
        value = self.query_one("#speed-model", Select).value
        return value if isinstance(value, str) else None

    def offer(self, models: Mapping[str, str]) -> None:
        """Offer these models, by ref."""
        select = self.query_one("#speed-model", Select)
        before = self.chosen
        select.set_options([(Content(harmless(text)), ref) for ref, text in models.items()])
        if before in models or models:
            select.value = before if before in models else next(iter(models))

    def say(self, text: str, *, is_bad: bool = False) -> None:
        """Say how far it is, or what went wrong."""
        status = self.query_one("#speed-status", Static)
        status.update(Content(harmless(text)))
        status.set_class(is_bad, "-bad")

    def show(self, runs: Sequence[SpeedRun]) -> None:
        """Show all measurements, the last one on top."""
        table = self.query_one("#speed-table", DataTable)
        table.clear()
        for run in reversed(runs):
            table.add_row(*_row(run))
        self.query_one("#speed-plot", Plot).show(_series(runs))


def _series(runs: Sequence[SpeedRun]) -> list[Series]:
    """Return the generation speeds of each model that was measured last, run by run."""
    names = list(dict.fromkeys(run.model for run in reversed(runs)))[:3]
    return [
        Series(
            harmless(name)[:_MAX_NAME],
            [(float(n), run.generation_tok_s) for n, run in enumerate(runs, 1) if run.model == name],
            "points",
        )
        for name in names
    ]


def _row(run: SpeedRun) -> tuple[Text, ...]:
    texts = (
        run.time[:16].replace("T", " "),
        run.model[-_MAX_NAME:],
        run.file_type,
        rate(run.prompt_tok_s),
        rate(run.generation_tok_s),
        run.version,
        f"{run.machine[:_MAX_MACHINE]}, {run.n_threads} threads",
    )
    return tuple(Text(harmless(text), justify="right" if n in _RIGHT else "left") for n, text in enumerate(texts))
