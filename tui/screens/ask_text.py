"""A question that one line answers: a name, a path."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Label

from tui.screens.dialog import Dialog


class AskText(Dialog[str]):
    """Asks for a line; an empty one is no answer.

    Args:
        heading: what is asked for.
        value: what stands there already.
        note: a sentence below.
    """

    HEADING = ""
    KEYS = "Enter takes it · Esc closes"

    def __init__(self, heading: str, value: str = "", note: str = "") -> None:
        super().__init__()
        self._heading = heading
        self._value = value
        self._note = note

    def compose_panel(self) -> ComposeResult:
        yield Input(self._value, select_on_focus=False, id="answer")
        if self._note:
            yield Label(Content.styled(self._note, "dim"))

    def on_mount(self) -> None:
        self.query_one("#panel").border_title = Content(self._heading)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value.strip() or None)
