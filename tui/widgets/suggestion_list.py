"""What could be meant by what is being written: commands, saved prompts, files. The text keeps the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.printable import marked


@dataclass(frozen=True)
class Suggestion:
    """One thing to choose."""

    kind: Literal["command", "prompt", "file"]
    name: str
    """What is typed: "/export", or the path of a file."""
    help: str = ""
    text: str = ""
    """Of a saved prompt."""


def matching(suggestions: Sequence[Suggestion], typed: str) -> list[Suggestion]:
    """Return those whose names begin with `typed`, then those that have it elsewhere."""
    typed = typed.lower()
    first = [s for s in suggestions if s.name.lower().startswith(typed)]
    word = typed.removeprefix("/")
    return first + [s for s in suggestions if s not in first and word and word in f"{s.name} {s.help}".lower()]


class SuggestionList(OptionList, can_focus=False):
    """A small list above the text; the text keeps the focus and hands the keys on."""

    DEFAULT_CSS = """
    SuggestionList {
        display: none;
        height: auto;
        max-height: 8;
        border: none;
        padding: 0 1;
        background: $panel;
        scrollbar-size-vertical: 1;

        &.-shown {
            display: block;
        }
        &:focus {
            border: none;
        }
        & > .option-list--option-highlighted {
            background: $primary;
            color: $background;
            text-style: bold;
        }
    }
    """

    class Taken(Message):
        """One was clicked."""

        def __init__(self, suggestion: Suggestion) -> None:
            super().__init__()
            self.suggestion = suggestion

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._suggestions: list[Suggestion] = []

    @property
    def is_shown(self) -> bool:
        return bool(self._suggestions)

    @property
    def current(self) -> Suggestion | None:
        """The one that Enter takes."""
        if self.highlighted is None or not self._suggestions:
            return None
        return self._suggestions[self.highlighted]

    def offer(self, suggestions: Sequence[Suggestion]) -> None:
        """Show these; none hides the list."""
        if list(suggestions) == self._suggestions:
            return
        self._suggestions = list(suggestions)
        self.set_options([Option(_line(suggestion)) for suggestion in self._suggestions])
        self.set_class(bool(self._suggestions), "-shown")
        if self._suggestions:
            self.highlighted = 0

    def move(self, by: int) -> None:
        """Go to another one."""
        if by > 0:
            self.action_cursor_down()
        else:
            self.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(self.Taken(self._suggestions[event.option_index]))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        event.prevent_default()


def _line(suggestion: Suggestion) -> Content:
    help_text = " ".join(marked(suggestion.help or suggestion.text[:200]).split())
    return Content(f"{marked(suggestion.name)}  ") + Content.styled(help_text, "dim")
