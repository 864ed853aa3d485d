"""One line about the answer: which model, how fast, and how much of its context is used, by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import events
from textual.content import Content
from textual.widget import Widget

from localllm.printable import marked
from tui.chat.meter import Figures

if TYPE_CHECKING:
    from tui.chat.events import Phase
    from tui.engines import EngineState

_BETWEEN = " · "
_N_GAUGE = 8
_PHASES = {"reading": "reading…", "tools": "a tool runs"}
_NEARLY_FULL = 0.9


@dataclass(frozen=True)
class Part:
    """Something to say, and how much it matters: of parts without room, those with the highest rank go first."""

    content: Content
    rank: int


class ChatFooter(Widget):
    """The line below the field in which one writes."""

    DEFAULT_CSS = """
    ChatFooter {
        height: 1;
        padding: 0 1;
        color: $text-muted;
        background: $surface;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._parts: tuple[Part, ...] = ()

    def show(self, ref: str | None, figures: Figures, phase: Phase, state: EngineState | None) -> None:
        """Show how a conversation's model does.

        Args:
            ref: the model; None: none is chosen.
            figures: of the answer that streams, else of the last one.
            phase: what the conversation does now.
            state: the model's engine; None: it was not asked for yet.
        """
        parts = tuple(parts_of(ref, figures, phase, state))
        if parts != self._parts:
            self._parts = parts
            self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self.refresh()

    def render(self) -> Content:
        return fitted(self._parts, self.content_size.width)


def parts_of(ref: str | None, figures: Figures, phase: Phase, state: EngineState | None) -> list[Part]:
    """Return what there is to say, in the order in which it is shown."""
    name = "no model yet" if ref is None else " ".join(marked(ref).split())
    said = [(0, name), (1, _doing(phase, state))]
    if figures.tok_s:
        said.append((3, f"{figures.tok_s:.{0 if figures.tok_s >= 10 else 1}f} tok/s"))
    if figures.first_s:
        said.append((5, f"first {figures.first_s:.1f} s"))
    parts = [Part(Content(text), rank) for rank, text in said if text]
    if figures.n_context and figures.n_ctx:
        parts.append(Part(gauge(figures.n_context, figures.n_ctx), 2))
    rest = [
        (6, f"reused {figures.n_reused:,}" if figures.n_reused else ""),
        (4, f"forgot {figures.n_evicted:,}" if figures.n_evicted else ""),
        (7, f"draft ×{figures.speedup:.1f}" if figures.speedup else ""),
    ]
    return parts + [Part(Content(text), rank) for rank, text in rest if text]


def gauge(n_used: int, n_ctx: int) -> Content:
    """Return how much of a context is used, in numbers and as a bar."""
    share = min(n_used / n_ctx, 1.0)
    n_full = round(share * _N_GAUGE)
    style = "$text-warning" if share >= _NEARLY_FULL else ""
    bar = Content.styled("━" * n_full, style or "$text-primary") + Content.styled(
        "─" * (_N_GAUGE - n_full), "$text-muted"
    )
    return bar + Content.styled(f" {_short(n_used)} of {_short(n_ctx)}", style)


def fitted(parts: Sequence[Part], width: int) -> Content:
    """Return the parts that have room, in a line; of the last one, its beginning."""
    kept = list(parts)
    between = Content(_BETWEEN)
    while len(kept) > 1 and between.join(part.content for part in kept).cell_length > width:
        kept.remove(max(kept, key=lambda part: part.rank))
    return between.join(part.content for part in kept).truncate(width, ellipsis=True)


def _doing(phase: Phase, state: EngineState | None) -> str:
    if state is not None and state.phase == "loading":
        return f"loading {state.share:.0%}"
    if state is not None and state.phase != "ready":
        return state.phase
    return _PHASES.get(phase, "")


def _short(n_tokens: int) -> str:
    return f"{n_tokens:,}" if n_tokens < 10_000 else f"{n_tokens / 1000:,.1f}k".replace(".0k", "k")
