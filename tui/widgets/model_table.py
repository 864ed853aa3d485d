"""The list of models, with what the planner thinks of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from tui.model_plans import Verdict
from tui.model_rows import ModelRow
from tui.model_texts import clean, context_text, size_text, speed_text

WIDE = 100
"""Columns of the terminal from which on verdicts are said in full."""
_N_AHEAD = 10
"""Rows below the last one in view that are judged too."""
_LEAST_NAME = 16


class Column(NamedTuple):
    """One column: its name, its width, and that width where there is room."""

    key: str
    label: str
    width: int
    wide: int
    is_right: bool = False


COLUMNS = (
    Column("name", "Model", 0, 0),
    Column("size", "Size", 10, 10, is_right=True),
    Column("quantization", "Quant", 8, 8),
    Column("context", "Context", 0, 7, is_right=True),
    Column("verdict", "Fits here", 10, 26),
    Column("speed", "tok/s", 5, 6, is_right=True),
    Column("place", "Where", 11, 11),
)
"""A column without a width is left out; the name has what the others leave."""
_RIGHT = frozenset(column.key for column in COLUMNS if column.is_right)


class ModelTable(DataTable[Text]):
    """Models, one a line."""

    DEFAULT_CSS = """
    ModelTable { height: 1fr; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Details", id="models.details", tooltip="All that is known of this model"),
        Binding("j", "cursor_down", "Down", id="models.down", show=False),
        Binding("g", "scroll_top", "First", id="models.first", show=False),
        Binding("G", "scroll_bottom", "Last", id="models.last", show=False),
    ]

    class InView(Message):
        """Other models came into view."""

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, id="model-table")
        self._rows: dict[str, ModelRow] = {}
        self._columns_shown: tuple[tuple[str, int], ...] = ()
        self._is_wide = False
        self._verdict_of: Callable[[ModelRow], Verdict | None] = lambda row: None
        self._downloads: Mapping[str, str] = {}

    @property
    def chosen(self) -> ModelRow | None:
        """The model under the cursor."""
        if not self.row_count:
            return None
        key = self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value
        return self._rows.get(key or "")

    @property
    def keys(self) -> list[str]:
        """The keys of the models that are shown, in order."""
        return list(self._rows)

    @property
    def rows_in_view(self) -> list[ModelRow]:
        """The models that are seen now, and the next few."""
        first = max(int(self.scroll_offset.y) - 1, 0)
        keys = [row.key.value or "" for row in self.ordered_rows[first : first + self.size.height + _N_AHEAD]]
        return [self._rows[key] for key in keys]

    def show(
        self,
        rows: Sequence[ModelRow],
        verdict_of: Callable[[ModelRow], Verdict | None],
        downloads: Mapping[str, str],
        *,
        chosen: str | None = None,
    ) -> None:
        """Show these models.

        Args:
            rows: the models.
            verdict_of: what is thought of one, as far as is known.
            downloads: key of a model to how far its download is.
            chosen: key of the one under the cursor; None: the one that was there.
        """
        before = self.chosen
        self._verdict_of, self._downloads = verdict_of, downloads
        self._rows = {row.key: row for row in rows}
        self._lay_out()
        key = chosen or (before.key if before is not None else "")
        if key in self._rows:
            self.move_cursor(row=self.get_row_index(key))
        self.call_after_refresh(self.post_message, self.InView())

    def update_model(self, row: ModelRow) -> None:
        """Show again what is known of a model."""
        if row.key not in self._rows:
            return
        self._rows[row.key] = row
        for (column, _), cell in zip(self._columns_shown, self._cells(row), strict=True):
            self.update_cell(row.key, column, cell)

    def show_downloads(self, downloads: Mapping[str, str]) -> None:
        """Show how far downloads are, in the lines of their models."""
        changed = {key for key in {*downloads, *self._downloads} if downloads.get(key) != self._downloads.get(key)}
        self._downloads = downloads
        for key in changed & self._rows.keys():
            self.update_model(self._rows[key])

    def on_resize(self, event: events.Resize) -> None:
        if self._layout_of(event.size.width) != self._columns_shown:
            chosen = self.chosen
            self._lay_out()
            if chosen is not None:
                self.move_cursor(row=self.get_row_index(chosen.key))
        # What opens below, such as the list of downloads, must not hide the cursor.
        self.call_after_refresh(self._scroll_cursor_into_view)
        self.post_message(self.InView())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(old_value) != round(new_value):
            self.post_message(self.InView())

    def _lay_out(self) -> None:
        self._columns_shown = self._layout_of(self.size.width)
        self._is_wide = self.size.width >= WIDE
        labels = {column.key: column.label for column in COLUMNS}
        self.clear(columns=True)
        for key, width in self._columns_shown:
            self.add_column(_cell(labels[key], is_right=key in _RIGHT), width=width, key=key)
        for row in self._rows.values():
            self.add_row(*self._cells(row), key=row.key)

    def _layout_of(self, n_columns: int) -> tuple[tuple[str, int], ...]:
        is_wide = n_columns >= WIDE
        shown = [(column.key, column.wide if is_wide else column.width) for column in COLUMNS[1:]]
        shown = [(key, width) for key, width in shown if width]
        padding = 2 * self.cell_padding * (len(shown) + 1) + 2
        name = max(n_columns - sum(width for _, width in shown) - padding, _LEAST_NAME)
        return (("name", name), *shown)

    def _cells(self, row: ModelRow) -> list[Text]:
        verdict = self._verdict_of(row)
        verdict_text = "" if verdict is None else verdict.text if self._is_wide else verdict.short
        texts = {
            "name": _name(row, dict(self._columns_shown)["name"]),
            "weights": row.weights,
            "size": size_text(row.n_bytes, is_rough=row.is_rough),
            "quantization": row.quantization or "–",
            "context": context_text(row.n_ctx),
            "verdict": "damaged" if row.note.startswith("damaged") else verdict_text,
            "speed": speed_text(verdict.tok_s if verdict is not None else None),
            "place": self._downloads.get(row.key) or row.place or ("gated" if row.is_gated else "not here"),
        }
        style = "dim" if verdict is not None and verdict.fits is False else ""
        return [_cell(texts[key], style, is_right=key in _RIGHT) for key, _ in self._columns_shown]


def _name(row: ModelRow, width: int) -> str:
    """Return what a model is called, without what the other columns say, and if need be without whose it is."""
    name = clean(row.ref)
    if row.quantization and name.endswith(f":{row.quantization}"):
        name = name.removesuffix(f":{row.quantization}")
    return name if len(name) <= width else name.rpartition("/")[2]


def _cell(text: str, style: str = "", *, is_right: bool = False) -> Text:
    return Text(text, style, justify="right" if is_right else "left", no_wrap=True, overflow="ellipsis")
