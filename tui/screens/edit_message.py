"""A message in other words."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from tui.screens.dialog import Dialog


class EditMessage(Dialog[str]):
    """Asks for another wording; an empty one is no answer.

    Args:
        text: as it was said.
        is_question: it will be answered again.
    """

    DEFAULT_CSS = """
    EditMessage {
        & #text { height: 1fr; border: none; padding: 0; background: $surface; }
        & #panel { height: 60%; }
    }
    """
    HEADING = "Say it otherwise"
    KEYS = "F10 takes it · Esc closes"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f10", "take", "Take", id="edit_message.take", priority=True)]

    def __init__(self, text: str, *, is_question: bool) -> None:
        super().__init__()
        self._text = text
        self._is_question = is_question

    def compose_panel(self) -> ComposeResult:
        yield TextArea(self._text, id="text")

    def on_mount(self) -> None:
        heading = "Ask it otherwise" if self._is_question else "Change the answer"
        self.query_one("#panel").border_title = heading
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)

    def action_take(self) -> None:
        """Answer with the text."""
        self.dismiss(self.query_one(TextArea).text.strip() or None)
