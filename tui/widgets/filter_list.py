"""A list that is filtered by typing: the words are typed above, the arrows move below, without changing the focus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from localllm.gguf.problems import printable
from tui.widgets.box import Box

_MOVES = {"up": "cursor_up", "down": "cursor_down", "pageup": "page_up", "pagedown": "page_down"}


@dataclass(frozen=True)
class Row:
    """One line of the list. Its texts are shown as they are."""

    id: str
    cells: tuple[str, ...]
    heading: str = ""
    """What it stands under; rows of one heading follow each other."""
    search: str = ""
    """More words that it is found by."""
    styles: tuple[str, ...] = ()
    """Of the cells, in Textual's words; none for those that are left out."""

    def fits(self, words: Iterable[str]) -> bool:
        """Whether every word occurs in it."""
        text = " ".join((*self.cells, self.heading, self.search)).casefold()
        return all(word in text for word in words)


class FilterList(Vertical):
    """Rows under headings, and a box whose words choose among them.

    Args:
        placeholder: what the empty box says.
        widths: of the columns, in cells; the last one takes what is left.
        empty: what is said where no row fits the words.
    """

    DEFAULT_CSS = """
    FilterList {
        & > OptionList {
            height: 1fr;
            border: none;
            padding: 0 0 0 1;
            background: transparent;
            &:focus { border: none; background-tint: transparent 0%; }
            & > .option-list--option-disabled { color: $primary; text-style: bold; }
            & > .option-list--option-highlighted {
                background: $block-cursor-background;
                color: $block-cursor-foreground;
            }
        }
    }
    FilterList > OptionList:nocolor > .option-list--option-highlighted { text-style: reverse; }
    """

    @dataclass
    class Highlighted(Message):
        """The cursor is on another row."""

        row_id: str

    @dataclass
    class Chosen(Message):
        """It was clicked. Enter is the screen's, which knows what it does."""

        row_id: str

    def __init__(
        self,
        placeholder: str,
        widths: Sequence[int] = (),
        empty: str = "Nothing has these words.",
        id: str | None = None,
    ) -> None:
        super().__init__()
        self._placeholder = placeholder
        self._widths = tuple(widths)
        self._empty = empty
        self._rows: tuple[Row, ...] = ()
        self._wanted: str | None = None

    def compose(self) -> ComposeResult:
        yield Box(placeholder=self._placeholder)
        yield OptionList(markup=False)

    def on_mount(self) -> None:
        # One place for the cursor: the arrows go from the box to the list by themselves.
        self._list.can_focus = False

    @property
    def _box(self) -> Box:
        return self.query_one(Box)

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    @property
    def row_id(self) -> str | None:
        """The row that the cursor is on."""
        option = self._list.highlighted_option
        return option.id if option else None

    @property
    def row_ids(self) -> list[str]:
        """The rows that are shown."""
        return [option.id for option in self._list.options if option.id is not None]

    def focus_box(self) -> None:
        """Begin to type."""
        self._box.focus()

    def show(self, rows: Iterable[Row], at: str | None = None) -> None:
        """Show other rows; the cursor stays on the same one, or goes to `at`."""
        self._rows = tuple(rows)
        self._fill(at or self.row_id or self._wanted)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(self.row_id)

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Highlighted(event.option_id))

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Chosen(event.option_id))

    def on_key(self, event: events.Key) -> None:
        move = _MOVES.get(event.key)
        if move is None:
            return
        event.stop()
        event.prevent_default()
        getattr(self._list, f"action_{move}")()

    def on_resize(self) -> None:
        self._fill(self.row_id or self._wanted)

    def clear_words(self) -> bool:
        """Empty the box; False if it was empty."""
        had_words = bool(self._box.value)
        self._box.value = ""
        return had_words

    def _fill(self, at: str | None) -> None:
        words = self._box.value.casefold().split()
        shown = [row for row in self._rows if row.fits(words)]
        is_none = self._rows and not shown
        self._list.set_options([Option(self._empty, disabled=True)] if is_none else self._options(shown))
        self._wanted = at
        ids = [option.id for option in self._list.options]
        first = next((index for index, row_id in enumerate(ids) if row_id is not None), None)
        self._list.highlighted = ids.index(at) if at is not None and at in ids else first
        if self._list.highlighted == first:
            self._list.scroll_home(animate=False)

    def _options(self, rows: Iterable[Row]) -> Iterator[Option]:
        width = max(20, self.size.width - 4)
        for number, (heading, group) in enumerate(groupby(rows, key=lambda row: row.heading)):
            if heading:
                yield Option(Content(("\n" if number else "") + heading), disabled=True)
            for row in group:
                yield Option(self._line(row, width), id=row.id)

    def _line(self, row: Row, width: int) -> Content:
        parts: list[Content] = []
        left = width
        for number, cell in enumerate(row.cells):
            is_last = number == len(row.cells) - 1
            cells = left if is_last or number >= len(self._widths) else self._widths[number]
            style = row.styles[number] if number < len(row.styles) else ""
            part = Content.styled(printable(cell, width), style)
            gap = 0 if is_last else 1
            parts.append(part.truncate(max(1, cells - gap), ellipsis=True, pad=not is_last) + " " * gap)
            left -= cells
        return Content("").join(parts)
