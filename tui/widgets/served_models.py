"""The models of a running server: what is loaded, what it takes, what it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text
from textual.widgets import DataTable

from localllm.printable import harmless
from tui.figures import format_bytes, span

_COLUMNS = {"model": 20, "state": 14, "memory": 8, "context": 7, "runs": 7, "cells": 5, "idle": 5}
"""Columns and their widths: fixed, so that nothing jumps while figures change."""
_MAX_NAME = 20
_RIGHT = (2, 3, 4, 5, 6)


class ServedModels(DataTable[Text]):
    """A row for each model; the cursor stays where it was."""

    DEFAULT_CSS = """
    ServedModels {
        height: auto;
        max-height: 8;
        min-height: 3;
        background: $background;
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._names: list[str] = []

    def on_mount(self) -> None:
        for column, width in _COLUMNS.items():
            self.add_column(column, width=width)

    @property
    def chosen(self) -> str | None:
        """The name of the model under the cursor."""
        return self._names[self.cursor_row] if 0 <= self.cursor_row < len(self._names) else None

    def show(self, models: Sequence[dict[str, Any]]) -> None:
        """Show these, as /v1/admin/status describes them."""
        names = [str(model["id"]) for model in models]
        if names != self._names:
            self.clear()
            for model in models:
                self.add_row(*_row(model))
            self._names = names
            return
        for number, model in enumerate(models):
            for column, cell in enumerate(_row(model)):
                if self.get_cell_at((number, column)) != cell:  # type: ignore[arg-type]
                    self.update_cell_at((number, column), cell)  # type: ignore[arg-type]


def _row(model: dict[str, Any]) -> tuple[Text, ...]:
    texts = (
        _short(harmless(str(model["id"]))),
        _state(model),
        format_bytes(model["memory_bytes"]) if model.get("memory_bytes") else "",
        f"{model['context_length']:,}" if model.get("context_length") else "",
        _runs(model),
        f"{model['kv_cells_used'] / model['kv_cells']:.0%}" if model.get("kv_cells") else "",
        span(model["idle_s"]) if model.get("idle_s") is not None else "",
    )
    return tuple(Text(text, justify="right" if n in _RIGHT else "left") for n, text in enumerate(texts))


def _runs(model: dict[str, Any]) -> str:
    """Return what runs, of how many, and what waits: "4/4 +2"."""
    if not model.get("slots"):
        return ""
    return f"{model['running']}/{model['slots']}" + (f" +{model['waiting']}" if model["waiting"] else "")


def _state(model: dict[str, Any]) -> str:
    share = model.get("load_progress")
    state = harmless(str(model["state"])) if share is None else f"loading {share:.0%}"
    return f"{state}, pinned" if model.get("pinned") else state


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
