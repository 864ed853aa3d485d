"""What is looked for among the models: words, where they are, what kind, and whether they fit."""

from __future__ import annotations

from dataclasses import replace

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input, Label

from tui.model_rows import KINDS, SOURCES, Filter

_SOURCE_TEXTS = {"all": "here and catalog", "here": "here", "catalog": "catalog", "hub": "hub"}


class FilterChip(Label):
    """One choice, with the key that changes it; a click does the same."""

    def __init__(self, action: str, key: str, tooltip: str) -> None:
        super().__init__("", markup=False, id=f"filter-{action}")
        self._action, self._key = action, key
        self.tooltip = tooltip

    def show(self, value: str) -> None:
        """Show what is chosen."""
        self.update(f"{self._key} {value}")

    async def on_click(self, event: events.Click) -> None:
        event.stop()
        await self.screen.run_action(self._action)


class ModelFilters(Horizontal):
    """A line with the search box and the choices beside it."""

    DEFAULT_CSS = """
    ModelFilters {
        height: 1;
        Input { width: 1fr; }
        FilterChip { padding: 0 1; margin-left: 1; background: $panel; color: $text; }
        FilterChip:hover { background: $primary; color: $background; }
    }
    """

    class Changed(Message):
        """Something else is looked for."""

    class Submitted(Message):
        """Enter in the search box."""

    chosen: reactive[Filter] = reactive(Filter())

    def compose(self) -> ComposeResult:
        yield Input(placeholder="/ search", compact=True, id="model-search")
        yield FilterChip("next_source", "o", "Where models are looked for")
        yield FilterChip("next_kind", "k", "What models are for")
        yield FilterChip("toggle_fitting", "f", "Only models that fit this machine")

    def watch_chosen(self, chosen: Filter) -> None:
        self.query_one("#filter-next_source", FilterChip).show(_SOURCE_TEXTS[chosen.source])
        self.query_one("#filter-next_kind", FilterChip).show("any kind" if chosen.kind == "any" else chosen.kind)
        self.query_one("#filter-toggle_fitting", FilterChip).show(
            "only what fits" if chosen.only_fitting else "any size"
        )
        self.post_message(self.Changed())

    def next_source(self) -> None:
        """Look elsewhere."""
        at = SOURCES.index(self.chosen.source)
        self.chosen = replace(self.chosen, source=SOURCES[(at + 1) % len(SOURCES)])

    def next_kind(self) -> None:
        """Look for another kind."""
        self.chosen = replace(self.chosen, kind=KINDS[(KINDS.index(self.chosen.kind) + 1) % len(KINDS)])

    def focus_search(self) -> None:
        self.query_one(Input).focus()

    def clear(self) -> None:
        """Forget the words."""
        self.query_one(Input).value = ""

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.chosen = replace(self.chosen, words=event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Submitted())
