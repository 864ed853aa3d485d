"""The file types that can be made, with what each would come to: one is chosen, or several are ticked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable

from tui.quantizing.file_types import TYPE_CHOICES
from tui.quantizing.words import size

_COLUMNS = (("", "mark", 1), ("type", "type", 6), ("bits", "bits", 4), ("size", "size", 7), ("quality", "words", 27))
"""What stands above, the key, and the width."""


class TypeTable(DataTable[str]):
    """The types; where several may be chosen, Space ticks one."""

    DEFAULT_CSS = """
    TypeTable {
        & > .datatable--header { background: $panel; color: $text-muted; text-style: none; }
        &:focus > .datatable--cursor { text-style: bold; }
        & > .datatable--cursor { background: $surface; }
        &:focus > .datatable--cursor { background: $primary; color: $background; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "scroll_top", "First type", show=False, id="quantize.first-type"),
        Binding("end", "scroll_bottom", "Last type", show=False, id="quantize.last-type"),
        Binding("space", "tick", "Tick", id="quantize.tick", tooltip="Compare this type, or leave it out"),
    ]

    class Changed(Message):
        """Another type is chosen, or others."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._is_multiple = False
        self._ticked: set[str] = {"Q4_K_M", "Q3_K_M", "Q2_K"}

    def on_mount(self) -> None:
        for label, key, width in _COLUMNS:
            self.add_column(label, key=key, width=width)
        for choice in TYPE_CHOICES:
            self.add_row("", choice.name, f"{choice.bpw:.3g}", "", choice.words, key=choice.name)
        self._mark()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the types that are chosen."""
        if self._is_multiple:
            return tuple(choice.name for choice in TYPE_CHOICES if choice.name in self._ticked)
        return (TYPE_CHOICES[self.cursor_row].name,)

    def choose(self, type_name: str) -> None:
        """Choose this one."""
        row = next((n for n, choice in enumerate(TYPE_CHOICES) if choice.name == type_name), None)
        if row is not None:
            self.move_cursor(row=row)

    def tick(self, type_names: Collection[str]) -> None:
        """Tick these and no others."""
        self._ticked = set(type_names)
        self._mark()
        self.post_message(self.Changed())

    def choose_several(self, *, is_multiple: bool) -> None:
        """Let several be ticked, or one be chosen."""
        self._is_multiple = is_multiple
        self._mark()
        self.refresh_bindings()

    def show_sizes(self, sizes: Mapping[str, int]) -> None:
        """Say how large each type's file would be."""
        for choice in TYPE_CHOICES:
            n_bytes = sizes.get(choice.name)
            self.update_cell(choice.name, "size", "" if n_bytes is None else size(n_bytes))

    def action_tick(self) -> None:
        self._ticked ^= {TYPE_CHOICES[self.cursor_row].name}
        self._mark()
        self.post_message(self.Changed())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._is_multiple if action == "tick" else True

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        if not self._is_multiple:
            self._mark()
            self.post_message(self.Changed())

    def _mark(self) -> None:
        if not self.row_count:
            return
        chosen = self.chosen
        signs = ("☑", "☐") if self._is_multiple else ("●", "")
        for choice in TYPE_CHOICES:
            self.update_cell(choice.name, "mark", signs[choice.name not in chosen])
