"""The engines of this app: what each takes, and what its KV cells hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

from localllm.engine.stats import EngineStats
from localllm.printable import harmless
from tui.engines import EngineState
from tui.figures import format_bytes

_COLUMNS = {"engine": 20, "state": 11, "memory": 8, "context": 7, "cells": 5, "kept": 4, "in RAM": 8}
"""Columns and their widths: fixed, so that nothing jumps while figures change."""
_RIGHT = (2, 3, 4, 5, 6)
_MAX_NAME = 20


class EngineTable(DataTable[Text]):
    """A row for each engine."""

    DEFAULT_CSS = """
    EngineTable {
        height: auto;
        max-height: 10;
        background: $background;
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row")
        self._refs: list[str] = []

    def on_mount(self) -> None:
        for column, width in _COLUMNS.items():
            self.add_column(column, width=width)

    @property
    def chosen(self) -> str | None:
        """The ref of the engine under the cursor."""
        return self._refs[self.cursor_row] if 0 <= self.cursor_row < len(self._refs) else None

    def show(self, states: Sequence[EngineState], stats: Mapping[str, EngineStats]) -> None:
        """Show these; `stats` are by ref, of those that answered."""
        refs = [state.ref for state in states]
        rows = [_row(state, stats.get(state.ref)) for state in states]
        if refs != self._refs:
            self._refs = refs
            self.clear()
            for row in rows:
                self.add_row(*row)
            return
        for number, row in enumerate(rows):
            for column, cell in enumerate(row):
                if self.get_cell_at((number, column)) != cell:  # type: ignore[arg-type]
                    self.update_cell_at((number, column), cell)  # type: ignore[arg-type]


def _row(state: EngineState, stats: EngineStats | None) -> tuple[Text, ...]:
    info = None if state.llm is None else state.llm.info
    phase = f"loading {state.share:.0%}" if state.phase == "loading" else state.phase
    name = harmless(state.ref)
    texts = (
        name if len(name) <= _MAX_NAME else f"…{name[1 - _MAX_NAME :]}",
        phase,
        format_bytes(info.memory_bytes) if info and info.memory_bytes else "",
        f"{info.n_ctx:,}" if info else "",
        f"{stats.n_cells_used / stats.n_cells:.0%}" if stats and stats.n_cells else "",
        str(stats.n_cached_prefixes) if stats else "",
        format_bytes(stats.host_cache_bytes) if stats and stats.host_cache_bytes else "",
    )
    return tuple(Text(text, justify="right" if n in _RIGHT else "left") for n, text in enumerate(texts))
