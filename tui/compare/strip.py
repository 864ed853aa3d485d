"""The divergence along an answer: a bar for each token, and what both models thought of the present one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from tui.tokens.alternatives import percent
from tui.tokens.answer import piece_text

if TYPE_CHECKING:
    from localllm.workshop.answer_divergence import AnswerDivergence

_BARS = "▁▂▃▄▅▆▇█"


def bars(values: tuple[float, ...], n_cells: int) -> str:
    """Return a bar for each value, or for the largest of each few where there are more than cells."""
    if not values or n_cells < 1:
        return ""
    n_shown = min(len(values), n_cells)
    edges = [round(cell * len(values) / n_shown) for cell in range(n_shown + 1)]
    tops = [max(values[start:end]) for start, end in pairwise(edges)]
    highest = max(tops) or 1.0
    return "".join(_BARS[min(int(top / highest * len(_BARS)), len(_BARS) - 1)] for top in tops)


class DivergenceStrip(Widget, can_focus=True):
    """Shows one number for each token; left and right go through them."""

    DEFAULT_CSS = """
    DivergenceStrip { height: 2; padding: 0 1; color: $primary; }
    DivergenceStrip:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Token", key_display="←→", id="strip.previous"),
        Binding("right", "step(1)", "Next token", show=False, id="strip.next"),
        Binding("home", "first", "First token", show=False, id="strip.first"),
        Binding("end", "last", "Last token", show=False, id="strip.last"),
        Binding("n", "highest", "Differ most", id="strip.highest"),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.place = 0
        self._found: AnswerDivergence | None = None

    def show(self, found: AnswerDivergence | None) -> None:
        """Show another answer's; None: nothing."""
        if found is not self._found:
            self._found = found
            self.display = found is not None
            self.action_highest()

    def render(self) -> RenderResult:
        found = self._found
        if found is None:
            return ""
        n_cells, n_tokens = self.content_size.width, len(found.kl)
        row = bars(found.kl, n_cells)
        cell = min(self.place * len(row) // n_tokens, len(row) - 1)
        text = (
            f"{self.place + 1:,} {piece_text(found.pieces[self.place])}: KL {found.kl[self.place]:.4f} nats"
            f" · A {percent(found.reference_p[self.place]).strip()}, B {percent(found.other_p[self.place]).strip()}"
            f"{'' if found.same_top[self.place] else ' · other first choice'}"
        )
        return Content.assemble(
            row[:cell], (row[cell : cell + 1], "bold $accent on $panel"), row[cell + 1 :], "\n", text
        )

    def action_step(self, n: int) -> None:
        """Go to another token."""
        self._go(self.place + n)

    def action_first(self) -> None:
        """Go to the first token."""
        self._go(0)

    def action_last(self) -> None:
        """Go to the last token."""
        self._go(1 << 30)

    def action_highest(self) -> None:
        """Go to the token on which the two differ most."""
        if self._found is not None:
            self._go(max(range(len(self._found.kl)), key=self._found.kl.__getitem__))

    def _go(self, place: int) -> None:
        if self._found is not None:
            self.place = max(0, min(place, len(self._found.kl) - 1))
            self.refresh()
