"""A message in other words."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult

from tui.screens.dialog import Dialog
from tui.widgets.prompt_input import PromptInput


class EditMessage(Dialog[str]):
    """Asks for another wording; an empty one is no answer.

    Args:
        text: as it was said.
        is_question: it will be answered again.
    """

    DEFAULT_CSS = """
    EditMessage {
        & PromptInput { height: 1fr; max-height: 100%; }
        & #panel { height: 60%; }
    }
    """
    HEADING = "Say it otherwise"
    KEYS = "Enter takes it · Ctrl+J breaks the line · Esc closes"

    def __init__(self, text: str, *, is_question: bool) -> None:
        super().__init__()
        self._text = text
        self._is_question = is_question

    def compose_panel(self) -> ComposeResult:
        yield PromptInput()

    def on_mount(self) -> None:
        heading = "Ask it otherwise" if self._is_question else "Change the answer"
        self.query_one("#panel").border_title = heading
        field = self.query_one(PromptInput)
        field.load_text(self._text)
        field.move_cursor(field.document.end)

    @on(PromptInput.Entered)
    def _take(self, event: PromptInput.Entered) -> None:
        self.dismiss(event.text.strip() or None)

    @on(PromptInput.Pasted)
    def _insert(self, event: PromptInput.Pasted) -> None:
        self.query_one(PromptInput).insert_here(event.text)
