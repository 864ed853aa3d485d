"""The field in which one writes: one line high at first, growing with what is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from localllm.printable import harmless

_TAKEN = frozenset({"f6", "f7", "ctrl+e"})
"""Keys of a text area that the app or its chat has for something else."""


def _of_text_area() -> Iterator[Binding]:
    """Yield a text area's bindings, one for each action, each with an id."""
    keys: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for binding in Binding.make_bindings(TextArea.BINDINGS):
        if binding.key not in _TAKEN:
            keys.setdefault(binding.action, []).append(binding.key)
            texts[binding.action] = binding.description
    for action, of_action in keys.items():
        name = action.replace("(True)", "-selecting").replace("_", "-")
        yield Binding(",".join(of_action), action, texts[action], id=f"input.{name}", show=False)


class PromptInput(TextArea, inherit_bindings=False):
    """A text area in which Enter sends."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *_of_text_area(),
        Binding("shift+enter,ctrl+j,alt+enter", "break_line", "New line", id="composer.break-line", show=False),
        Binding("alt+up,ctrl+up", "recall(-1)", "Sent before", id="composer.recall-before", show=False),
        Binding("alt+down,ctrl+down", "recall(1)", "Sent after", id="composer.recall-after", show=False),
    ]
    DEFAULT_CSS = """
    PromptInput {
        height: auto;
        min-height: 1;
        max-height: 10;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;

        &:focus {
            border: none;
        }
    }
    """

    class Entered(Message):
        """Enter was pressed."""

    class RecallWanted(Message):
        """What was sent before (-1) or after (1) what is shown is wanted."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Pressed(Message):
        """A key that means something else where the text is not what has it: up, down, tab, escape, backspace."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Pasted(Message):
        """Text was pasted; whoever hears it inserts it."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, placeholder: str = "") -> None:
        super().__init__(placeholder=placeholder, compact=True, highlight_cursor_line=False, soft_wrap=True)
        self.is_choosing = False
        """A list of suggestions has the keys by which one chooses."""

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            self._take(event)
            self.post_message(self.Entered())
        elif self._is_for_others(event.key):
            self._take(event)
            self.post_message(self.Pressed(event.key))

    def _take(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()

    def _is_for_others(self, key: str) -> bool:
        if self.is_choosing:
            return key in ("up", "down", "tab", "escape")
        return not self.text and key in ("up", "backspace")

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(self.Pasted(harmless(event.text.replace("\r\n", "\n").replace("\r", "\n"))))

    def action_break_line(self) -> None:
        """Break the line where the cursor is."""
        self.insert_here("\n")

    def action_recall(self, by: int) -> None:
        self.post_message(self.RecallWanted(by))

    def insert_here(self, text: str) -> None:
        """Insert a text where the cursor is, in place of what is selected."""
        result = self.replace(text, *self.selection)
        self.move_cursor(result.end_location)

    def replace_all(self, text: str) -> None:
        """Replace the whole text, in a step that can be undone."""
        self.replace(text, (0, 0), self.document.end)
        self.move_cursor(self.document.end)
