"""The answer as running text, each token shaded by how unlikely it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.tokens.answer import ShownToken

LEVELS = (0.9, 0.5, 0.2, 0.05)
"""A token is the darker, the more of these its probability is below."""


class Piece(NamedTuple):
    """A token, or a part of one, on one line."""

    place: int
    """Of the token."""
    text: str


def level(p: float) -> int:
    """Return how unlikely a probability is, 0 to 4."""
    return sum(p < bound for bound in LEVELS)


def lay_out(tokens: Sequence[ShownToken], width: int) -> list[list[Piece]]:
    """Return the lines of the text: tokens are kept whole where they fit, and line feeds are shown and obeyed."""
    lines: list[list[Piece]] = [[]]
    column = 0
    for place, token in enumerate(tokens):
        parts = token.text.replace("\t", "    ").split("\n")
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            for text in _chopped(part if is_last else f"{part}⏎", width):
                n_cells = cell_len(text)
                if column and column + n_cells > width:
                    lines.append([])
                    column = 0
                if text:
                    lines[-1].append(Piece(place, text))
                    column += n_cells
            if not is_last:
                lines.append([])
                column = 0
    return lines


def _chopped(text: str, width: int) -> list[str]:
    """Return a text in pieces of at most `width` cells; rich's `chop_cells` loses characters that take none."""
    if cell_len(text) <= width:
        return [text]
    pieces, n_cells = [""], 0
    for char in text:
        n_own = cell_len(char)
        if n_cells + n_own > width:
            pieces.append("")
            n_cells = 0
        pieces[-1] += char
        n_cells += n_own
    return pieces


class TokenFlow(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows tokens; one of them is the present one."""

    DEFAULT_CSS = """
    TokenFlow {
        & > .token-flow--level-0 { background: $surface; color: $foreground; }
        & > .token-flow--level-1 { background: $warning 15%; color: $foreground; }
        & > .token-flow--level-2 { background: $warning 35%; color: $foreground; }
        & > .token-flow--level-3 { background: $error 35%; color: $foreground; text-style: underline; }
        & > .token-flow--level-4 { background: $error 60%; color: $foreground; text-style: bold underline; }
        & > .token-flow--here { background: $primary; color: $background; text-style: bold; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"token-flow--level-{number}" for number in range(len(LEVELS) + 1)),
        "token-flow--here",
    }

    class Moved(Message):
        """Another token is the present one."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.place = 0
        self.tokens: list[ShownToken] = []
        self._lines: list[list[Piece]] = [[]]
        self._line_of: list[int] = []

    def show(self, tokens: list[ShownToken]) -> None:
        """Replace what is shown."""
        self.tokens = tokens
        self._lay_out()
        self.move_to(self.place)

    def move_to(self, place: int) -> None:
        """Make another token the present one; beyond the ends is the end."""
        if not self.tokens:
            return
        self.place = max(0, min(place, len(self.tokens) - 1))
        line = self._line_of[self.place]
        self.scroll_to_region(Region(0, line, 1, 1), animate=False)
        self.refresh()
        self.post_message(self.Moved(self.place))

    def move_lines(self, n_lines: int) -> None:
        """Go to the token that is so many lines below, about under this one."""
        if not self.tokens:
            return
        line, column = self._line_of[self.place], self._column_of(self.place)
        target = line + n_lines
        while 0 <= target < len(self._lines) and not self._lines[target]:
            target += 1 if n_lines > 0 else -1
        if not 0 <= target < len(self._lines):
            self.move_to(0 if n_lines < 0 else len(self.tokens) - 1)
            return
        self.move_to(self._at(target, column))

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if not 0 <= line < len(self._lines):
            return Strip.blank(width, self.rich_style)
        segments = [Segment(piece.text, self._style_of(piece.place)) for piece in self._lines[line]]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out()

    def on_click(self, event: events.Click) -> None:
        line = event.y + self.scroll_offset.y
        if 0 <= line < len(self._lines) and self._lines[line]:
            self.move_to(self._at(line, event.x))

    def _style_of(self, place: int) -> Style:
        name = "here" if place == self.place else f"level-{level(self.tokens[place].p)}"
        return self.get_component_rich_style(f"token-flow--{name}")

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width or 1
        self._lines = lay_out(self.tokens, width)
        self._line_of = [0] * len(self.tokens)
        for number, line in reversed([*enumerate(self._lines)]):
            for piece in line:
                self._line_of[piece.place] = number
        self.virtual_size = Size(width, len(self._lines))

    def _column_of(self, place: int) -> int:
        column = 0
        for piece in self._lines[self._line_of[place]]:
            if piece.place == place:
                break
            column += cell_len(piece.text)
        return column

    def _at(self, line: int, column: int) -> int:
        """Return the token that stands at `column`, or the line's last one."""
        end = 0
        for piece in self._lines[line]:
            end += cell_len(piece.text)
            if column < end:
                return piece.place
        return self._lines[line][-1].place
