"""Asks whether to quit while something would end with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Static


class ConfirmQuit(ModalScreen[bool]):
    """True: quit all the same.

    Args:
        endings: what would end, a sentence for each thing.
    """

    DEFAULT_CSS = """
    ConfirmQuit {
        align: center middle;
        & > Vertical {
            width: 60;
            max-width: 90%;
            height: auto;
            max-height: 80%;
            padding: 1 2;
            border: round $warning;
            background: $surface;
        }
        #quit-question { text-style: bold; margin-bottom: 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "quit_all", "Quit all the same", id="quit.yes", tooltip="What runs is stopped"),
        Binding("escape,n", "stay", "Stay", id="quit.no", tooltip="Everything goes on"),
    ]

    def __init__(self, endings: Sequence[str]) -> None:
        super().__init__()
        self._endings = endings

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("Quit? This would end:", id="quit-question")
            yield Static("\n".join(f"• {text}" for text in self._endings), markup=False)
        yield Footer(show_command_palette=False)

    def action_quit_all(self) -> None:
        self.dismiss(True)

    def action_stay(self) -> None:
        self.dismiss(False)
