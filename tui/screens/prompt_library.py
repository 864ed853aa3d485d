"""The saved prompts: insert one, or delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets.option_list import Option

from tui.screens.filtered_list import FilteredList
from tui.widgets.conversation_list import one_line

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore, SavedPrompt


class PromptLibrary(FilteredList["SavedPrompt"]):
    """Lists what was saved; the answer is what is to be inserted."""

    HEADING = "Saved prompts"
    KEYS = "Enter inserts · F8 deletes · Esc closes"
    PLACEHOLDER = "Type a part of a name or text"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f8", "delete", "Delete", id="prompts.delete")]

    def __init__(self, store: ConversationStore) -> None:
        super().__init__()
        self._store = store
        self._fitting: list[SavedPrompt] = []

    def search(self, text: str) -> None:
        words = text.casefold().split()
        everything = list(self._store.prompts())
        self._fitting = [
            one
            for one in everything
            if all(word in f"{one.name} {one.text} {' '.join(one.tags)}".casefold() for word in words)
        ]
        empty = "No prompt is saved yet. Write one in the chat, and Alt+S saves it."
        self.note("" if self._fitting else "No prompt fits." if everything else empty)
        self.show_options([Option(_row(prompt)) for prompt in self._fitting])

    def take(self, place: int) -> None:
        self.dismiss(self._fitting[place])

    def action_delete(self) -> None:
        """Delete the highlighted prompt."""
        place = self.found.highlighted
        if place is not None:
            self._store.delete_prompt(self._fitting[place].id)
            self.search(self.query_text)


def _row(prompt: SavedPrompt) -> Content:
    return Content.assemble((one_line(prompt.name), "bold"), (f"  {one_line(prompt.text)[:200]}", "dim"))
