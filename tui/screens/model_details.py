"""The details of a model on a screen of their own, where there is no room beside the list."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer

from tui.model_plans import Plans
from tui.model_rows import ModelRow
from tui.widgets.model_details import ModelDetails

_DEEDS = (
    ("c", "chat", "Chat"),
    ("p", "pull", "Pull"),
    ("s", "serve", "Serve"),
    ("Q", "quantize", "Quantize"),
    ("d", "delete", "Delete"),
    ("v", "verify", "Verify"),
    ("y", "copy_ref", "Copy name"),
)


class ModelDetailsScreen(ModalScreen[str | None]):
    """Show a model; returns the action that was asked for, which the list's screen does.

    Args:
        row: the model.
        plans: what judges models.
    """

    DEFAULT_CSS = """
    ModelDetailsScreen ModelDetails { background: $background; height: 1fr; width: 1fr; padding: 1 2; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "dismiss", "Back", id="details.back"),
        *(Binding(key, f"dismiss('{action}')", text, id=f"details.{action}") for key, action, text in _DEEDS),
        Binding("m", "measure", "Measure", id="details.measure"),
    ]

    def __init__(self, row: ModelRow, plans: Plans) -> None:
        super().__init__()
        self._row, self._plans = row, plans

    def compose(self) -> ComposeResult:
        yield ModelDetails(self._plans)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        details = self.query_one(ModelDetails)
        details.show(self._row)
        details.focus()

    def action_measure(self) -> None:
        self.query_one(ModelDetails).show(self._row, measures=True)
