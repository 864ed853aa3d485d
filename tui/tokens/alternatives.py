"""What could have come instead of a token: a row and a bar for each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.tokens.answer import ShownToken, piece_text

if TYPE_CHECKING:
    from localllm.engine.events import TokenLogprob

_N_TEXT_CELLS = 12
_N_BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, n_cells: int) -> str:
    """Return a bar that fills `share`, 0 to 1, of so many cells."""
    n_eighths = round(max(0.0, min(share, 1.0)) * n_cells * 8)
    full, rest = divmod(n_eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(n_cells)


def percent(p: float) -> str:
    """Return a probability on five cells: " 97 %", "0.3 %", "<.1 %"."""
    if p < 0.001:
        return "<.1 %"
    return f"{p * 100:.0f} %".rjust(5) if p >= 0.0995 else f"{p * 100:.1f} %"


class Alternatives(OptionList, can_focus=False):
    """The likeliest tokens at one place, the one that came among them, marked."""

    DEFAULT_CSS = """
    Alternatives { border: none; padding: 0; background: $surface; height: 1fr; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.candidates: list[TokenLogprob] = []

    def show(self, token: ShownToken | None) -> None:
        """Show what could have come at this token's place."""
        self.candidates = [] if token is None else _candidates(token)
        chosen = None if token is None else token.choice.chosen.token
        rows = [_row(one, is_chosen=one.token == chosen) for one in self.candidates]
        self.set_options([Option(Content(row)) for row in rows])
        ids = [one.token for one in self.candidates]
        self.highlighted = ids.index(chosen) if chosen in ids else None

    @property
    def candidate(self) -> TokenLogprob | None:
        """The one that is highlighted."""
        return None if self.highlighted is None else self.candidates[self.highlighted]


def _candidates(token: ShownToken) -> list[TokenLogprob]:
    found = {one.token: one for one in token.choice.top}
    chosen = token.choice.chosen
    return list({**found, chosen.token: found.get(chosen.token, chosen)}.values())


def _row(one: TokenLogprob, *, is_chosen: bool) -> str:
    p = math.exp(one.logprob)
    text = piece_text(one.piece)
    text = text if cell_len(text) <= _N_TEXT_CELLS else f"{set_cell_size(text, _N_TEXT_CELLS - 1)}…"
    mark = "▸" if is_chosen else " "
    return f"{mark}{set_cell_size(text, _N_TEXT_CELLS)} {percent(p)} {bar(p, _N_BAR_CELLS)}"
