"""All that is known of one model."""

from __future__ import annotations

import asyncio

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Collapsible, Static

from localllm.errors import LocalLLMError
from tui.model_files import known_files
from tui.model_plans import Plans
from tui.model_rows import ModelRow
from tui.model_sections import Section, entry_sections, file_sections, first_section, plan_section
from tui.model_texts import clean
from tui.threads import on_a_thread

_CALM_S = 0.12
"""How long the cursor must rest on a model before its file is read."""


class ModelSection(Static):
    """A title, with labels and values below."""

    DEFAULT_CSS = """
    ModelSection { height: auto; margin-bottom: 1; }
    """

    def __init__(self, section: Section) -> None:
        super().__init__(markup=False)
        self._section = section

    def compose(self) -> ComposeResult:
        if self._section.title and not self._section.is_folded:
            yield Static(Text(self._section.title, "bold"))
        if self._section.rows:
            yield Static(_grid(self._section.rows, is_labelled=True))
        if self._section.table:
            yield Static(_grid(self._section.table))
        if self._section.text:
            yield Static(self._section.text, markup=False)


class ModelDetails(VerticalScroll):
    """All that is known of one model, which is read when it is shown.

    Args:
        plans: what judges models.
    """

    DEFAULT_CSS = """
    ModelDetails {
        padding: 0 1;
        Collapsible { padding: 0; margin-bottom: 1; border: none; background: transparent; }
        #details-name { text-style: bold; color: $primary; }
        .problem { color: $error; margin-bottom: 1; }
    }
    """

    def __init__(self, plans: Plans) -> None:
        super().__init__(id="model-details")
        self._plans = plans
        self._row: ModelRow | None = None
        self._shown: list[Section] = []

    def show(self, row: ModelRow | None, *, measures: bool = False, again: bool = False) -> None:
        """Show a model; None shows how to choose one.

        Args:
            row: the model.
            measures: measure how fast it would be, which takes seconds.
            again: also where it is the one that is shown: more is known of it now.
        """
        if row == self._row and not (measures or again):
            return
        self._row = row
        self.run_worker(self._fill(row, measures=measures), group="details", exclusive=True)

    async def _fill(self, row: ModelRow | None, *, measures: bool) -> None:
        if row is None:
            await self._put([], problem="", name="")
            return
        known = [first_section(row, self._plans.known(row))]
        await self._put(known, name=row.ref, problem="Measuring…" if measures else "")
        if not measures:
            await asyncio.sleep(_CALM_S)
        try:
            sections = await on_a_thread(lambda: self._read(row, measures))
        except LocalLLMError as error:
            await self._put(known, name=row.ref, problem=f"{error.message} {error.hint or ''}".rstrip())
            return
        first = first_section(row, self._plans.known(row))
        await self._put([first, *sections], name=row.ref, problem="")

    def _read(self, row: ModelRow, measures: bool) -> list[Section]:
        """Read and plan; on a thread."""
        if row.is_here:
            sections = file_sections(row)
        else:
            sections = entry_sections(row.entry, known_files(row, self._plans)) if row.entry is not None else []
        if row.is_adapter or not (row.is_here or measures or self._plans.is_measured(row)):
            return sections
        return [plan_section(self._plans.report(row, measures=measures)), *sections]

    async def _put(self, sections: list[Section], *, name: str, problem: str) -> None:
        widgets: list[Widget] = [Static(clean(name), id="details-name", markup=False)] if name else []
        if problem:
            widgets.append(Static(problem, classes="problem", markup=False))
        widgets += [_widget(section) for section in sections]
        async with self.batch():
            await self.remove_children()
            await self.mount_all(widgets)


def _widget(section: Section) -> Widget:
    body = ModelSection(section)
    return Collapsible(body, title=section.title, collapsed=True) if section.is_folded else body


def _grid(rows: tuple[tuple[str, ...], ...], *, is_labelled: bool = False) -> Table:
    """Return rows with their columns aligned; the first column, or the first row, says what the others are."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for index in range(len(rows[0])):
        justify: JustifyMethod = "right" if index and not is_labelled else "left"
        grid.add_column(justify=justify, no_wrap=is_labelled and not index, overflow="fold")
    for number, row in enumerate(rows):
        is_head = not is_labelled and not number
        grid.add_row(
            *(Text(cell, "dim" if is_head or (is_labelled and not index) else "") for index, cell in enumerate(row))
        )
    return grid
