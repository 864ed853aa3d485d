"""One of the two answers, with who gives it and how fast."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Label, Static

from localllm.printable import marked
from tui.compare.side import SideState


class AnswerPanel(Vertical):
    """Shows a side; the text follows its end until one scrolls away."""

    DEFAULT_CSS = """
    AnswerPanel {
        width: 1fr;
        & .answer { height: 1fr; padding: 0 1; border: round $panel; border-title-color: $text-muted; }
        & .answer:focus { border: round $primary; }
        & .line { width: 1fr; height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
    }
    """

    def __init__(self, name: str) -> None:
        super().__init__(id=f"answer-{name.lower()}")
        self._name = name
        self._shown: SideState | None = None

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="answer") as scroll:
            scroll.border_title = self._name
            yield Static(classes="text", markup=False)
        yield Label("", classes="line", markup=False)

    def show(self, state: SideState) -> None:
        """Show how far the side is."""
        if state is self._shown:
            return
        before, self._shown = self._shown, state
        self.query_one(".line", Label).update(Content(marked(state.line)))
        if before is None or (before.text, before.reasoning) != (state.text, state.reasoning):
            scroll = self.query_one(".answer", VerticalScroll)
            was_at_end = scroll.scroll_offset.y >= scroll.max_scroll_y
            self.query_one(".text", Static).update(_text(state))
            if was_at_end:
                scroll.scroll_end(animate=False)


def _text(state: SideState) -> Content:
    thought = (f"{marked(state.reasoning).strip()}\n\n", "dim italic") if state.reasoning else ""
    return Content.assemble(thought, marked(state.text))
