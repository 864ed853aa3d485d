"""What the dialogs of the chat have in common: a panel in the middle, and Esc."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class Dialog(ModalScreen[Answer | None], Generic[Answer]):
    """A panel with a title above and its keys below; None is the answer of who leaves it."""

    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        & > #panel {
            width: 90%;
            max-width: 100;
            height: auto;
            max-height: 90%;
            border: round $primary;
            border-title-color: $text;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            background: $surface;
            padding: 0 1;
        }
        & > #panel.-tall { height: 90%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close", id="dialog.close")]
    HEADING: ClassVar[str]
    KEYS: ClassVar[str] = "Esc closes"
    IS_TALL: ClassVar[bool] = False

    def compose(self) -> ComposeResult:
        with Vertical(id="panel", classes="-tall" if self.IS_TALL else "") as panel:
            panel.border_title, panel.border_subtitle = self.HEADING, self.KEYS
            yield from self.compose_panel()

    def compose_panel(self) -> ComposeResult:
        """Yield what is in the panel."""
        raise NotImplementedError

    def action_leave(self) -> None:
        """Close it without an answer."""
        self.dismiss(None)
