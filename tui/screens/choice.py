"""A question with a few answers, each with a key."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Answer(NamedTuple):
    """One answer: what it means, its key, and its words."""

    value: str
    key: str
    text: str
    is_grave: bool = False


class ChoiceScreen(ModalScreen[str | None]):
    """Ask, and return the value of the answer; None where nothing was chosen.

    Args:
        question: one line.
        lines: what one should know.
        answers: the first one is at hand, so it should do no harm.
    """

    DEFAULT_CSS = """
    ChoiceScreen {
        align: center middle;
        #choice { width: 72; max-width: 95%; height: auto; max-height: 90%; padding: 1 2; background: $surface;
            border: round $primary; }
        #choice-question { text-style: bold; margin-bottom: 1; }
        #choice-lines { margin-bottom: 1; color: $text-muted; }
        Horizontal { height: auto; }
        Button { margin-right: 2; }
    }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close", id="choice.close"),
        Binding("left,up", "app.focus_previous", "Previous", id="choice.previous", show=False),
        Binding("right,down", "app.focus_next", "Next", id="choice.next", show=False),
    ]

    def __init__(self, question: str, lines: tuple[str, ...], answers: tuple[Answer, ...]) -> None:
        super().__init__()
        self._question, self._lines, self._answers = question, lines, answers

    def compose(self) -> ComposeResult:
        with Vertical(id="choice"):
            yield Static(self._question, id="choice-question", markup=False)
            if self._lines:
                yield Static("\n".join(self._lines), id="choice-lines", markup=False)
            with Horizontal():
                for answer in self._answers:
                    text = f"{answer.key}  {answer.text}"
                    yield Button(
                        text,
                        variant="error" if answer.is_grave else "default",
                        id=f"choice-{answer.value}",
                        compact=True,
                    )

    def on_key(self, event: events.Key) -> None:
        for answer in self._answers:
            if event.key == answer.key:
                event.stop()
                self.dismiss(answer.value)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.dismiss((event.button.id or "").removeprefix("choice-"))
