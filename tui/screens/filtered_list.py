"""A dialog with a line to type in and a list that follows it."""

from __future__ import annotations

from typing import ClassVar, Generic

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from tui.screens.dialog import Answer, Dialog


class FilteredList(Dialog[Answer], Generic[Answer]):
    """Typing narrows the list, the arrows go through it, Enter takes what is highlighted."""

    DEFAULT_CSS = """
    FilteredList {
        & #query { border: none; height: 1; margin: 0 0 1 0; background: $panel; }
        & #found { border: none; padding: 0; background: $surface; height: 1fr; }
        & #found:focus { border: none; }
        & #note { color: $text-muted; height: auto; }
        & #panel { height: 80%; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "move('down')", show=False, id="list.down"),
        Binding("up", "move('up')", show=False, id="list.up"),
        Binding("pagedown", "move('page_down')", show=False, id="list.page_down"),
        Binding("pageup", "move('page_up')", show=False, id="list.page_up"),
    ]
    KEYS = "Enter chooses · Esc closes"
    PLACEHOLDER: ClassVar[str] = "Type to search"

    def compose_panel(self) -> ComposeResult:
        yield Input(placeholder=self.PLACEHOLDER, id="query")
        yield Label("", id="note", markup=False)
        found = OptionList(id="found", markup=False)
        found.can_focus = False
        yield found

    @property
    def found(self) -> OptionList:
        return self.query_one("#found", OptionList)

    @property
    def query_text(self) -> str:
        return self.query_one("#query", Input).value.strip()

    def note(self, text: str) -> None:
        """Say something above the list; nothing hides the line."""
        label = self.query_one("#note", Label)
        label.update(Content(text))
        label.display = bool(text)

    def show_options(self, options: list[Option]) -> None:
        """Replace the list, and highlight the first one that can be taken."""
        self.found.clear_options()
        self.found.add_options(options)
        self.found.highlighted = next((i for i, option in enumerate(options) if not option.disabled), None)

    def search(self, text: str) -> None:
        """Show what fits `text`."""
        raise NotImplementedError

    def take(self, place: int) -> None:
        """Answer with the option at `place`."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.note("")
        self.search("")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.search(event.value.strip())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.found.highlighted is not None:
            self.take(self.found.highlighted)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.take(event.option_index)

    def action_move(self, where: str) -> None:
        """Move the highlight; the line to type in keeps the focus."""
        getattr(self.found, f"action_{'cursor_' if where in ('up', 'down') else ''}{where}")()
