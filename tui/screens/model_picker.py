"""Which model answers: those a server has, those on the disk, those elsewhere."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets.option_list import Option

from tui.chat.choices import ModelChoice, model_choices
from tui.engines import Engines
from tui.screens.filtered_list import FilteredList
from tui.widgets.conversation_list import one_line

_GB = 1e9


class ModelPicker(FilteredList[str]):
    """Lists models; the answer is a ref.

    Args:
        engines: which of them are loaded.
        current: the one that answers now.
    """

    HEADING = "Choose a model"
    KEYS = "Enter chooses · F3 fetches others · Esc closes"
    PLACEHOLDER = "Type a part of its name"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f3", "fetch", "Fetch models", id="picker.fetch")]

    def __init__(self, engines: Engines, current: str | None) -> None:
        super().__init__()
        self._engines = engines
        self._current = current
        self._all: list[ModelChoice] | None = None
        self._rows: list[ModelChoice | None] = []

    def on_mount(self) -> None:
        super().on_mount()
        self._look()

    @work(thread=True)
    def _look(self) -> None:
        choices = model_choices()
        self.app.call_from_thread(self._found, choices)

    def _found(self, choices: list[ModelChoice]) -> None:
        self._all = choices
        self.search(self.query_text)

    def search(self, text: str) -> None:
        if self._all is None:
            self.note("Looking…")
            return
        words = text.casefold().split()
        fitting = [one for one in self._all if all(word in f"{one.ref} {one.detail}".casefold() for word in words)]
        self.note("" if fitting else "No model fits." if self._all else "No model is here yet. F3 fetches one.")
        self._rows, options = [], []
        for group in dict.fromkeys(choice.group for choice in fitting):
            self._rows.append(None)
            options.append(Option(Content.styled(group, "dim bold"), disabled=True))
            for choice in (one for one in fitting if one.group == group):
                self._rows.append(choice)
                options.append(Option(self._row(choice)))
        self.show_options(options)
        at = next((i for i, row in enumerate(self._rows) if row is not None and row.ref == self._current), None)
        if at is not None and not text:
            self.found.highlighted = at

    def take(self, place: int) -> None:
        choice = self._rows[place]
        if choice is not None:
            self.dismiss(choice.ref)

    def action_fetch(self) -> None:
        """Go where models are fetched."""
        self.dismiss(None)
        self.app.switch_mode("models")

    def _row(self, choice: ModelChoice) -> Content:
        state = self._engines.state(choice.ref)
        size = f"{choice.n_bytes / _GB:.1f} GB" if choice.n_bytes else ""
        facts = " · ".join(filter(None, (size, one_line(choice.detail), "loaded" if state and state.llm else "")))
        mark = "✓ " if choice.ref == self._current else "  "
        return Content.assemble(mark, one_line(choice.ref), (f"  {facts}", "dim"))
