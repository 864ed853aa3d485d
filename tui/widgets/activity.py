"""Throughput and latency of the last minutes."""

from __future__ import annotations

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.serving.metrics import WINDOW_S, Moment
from tui.widgets.plot import Plot, Series
from tui.widgets.plot_scale import Axis

_TIME = Axis("s ago", low=-WINDOW_S, high=0.0, number=lambda x: f"{-x:.0f}")
_MS = 1000.0


class Activity(Horizontal):
    """Two plots over the same minutes."""

    DEFAULT_CSS = """
    Activity {
        height: 1fr;
    }
    Activity Plot {
        height: 1fr;
    }
    Activity #throughput {
        margin-right: 2;
    }
    """

    def compose(self) -> ComposeResult:
        yield Plot(
            x_axis=_TIME,
            y_axis=Axis("tokens/s", low=0.0),
            empty="Throughput is drawn here once requests run.",
            id="throughput",
        )
        yield Plot(
            x_axis=_TIME,
            y_axis=Axis("ms", is_log=True),
            empty="Latency is drawn here once an answer has ended.",
            id="latency",
        )

    def show(self, moments: Iterable[Moment]) -> None:
        """Draw these moments, the last of which is now."""
        moments = list(moments)
        now_s = moments[-1].time_s if moments else 0.0
        decoded = [(moment.time_s - now_s, moment.decode_tok_s) for moment in moments]
        self.query_one("#throughput", Plot).show([Series("generated", decoded)] if any(y for _, y in decoded) else [])
        first = [(m.time_s - now_s, m.ttft_s * _MS) for m in moments if m.ttft_s]
        between = [(m.time_s - now_s, m.between_s * _MS) for m in moments if m.between_s]
        series = [Series("to first token", first, "points"), Series("per token", between, "points")]
        self.query_one("#latency", Plot).show(series if first or between else [])
