"""Ready lines for programs that shall use the server, one language at a time."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localllm.printable import harmless
from tui.serving.snippets import Snippet


class SnippetView(VerticalScroll):
    """One of several snippets."""

    DEFAULT_CSS = """
    SnippetView #snippet-titles {
        height: 1;
        margin-bottom: 1;
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._snippets: tuple[Snippet, ...] = ()
        self._at = 0

    def compose(self) -> ComposeResult:
        yield Static(id="snippet-titles")
        yield Static(id="snippet-text", markup=False)

    @property
    def snippet(self) -> Snippet | None:
        """The one that is shown."""
        return self._snippets[self._at % len(self._snippets)] if self._snippets else None

    def show(self, snippets: Sequence[Snippet]) -> None:
        """Offer these."""
        if tuple(snippets) != self._snippets:
            self._snippets = tuple(snippets)
            self._draw()

    def show_next(self) -> None:
        """Show the next language."""
        self._at = (self._at + 1) % max(1, len(self._snippets))
        self._draw()

    def _draw(self) -> None:
        here = self.snippet
        titles = (
            Content.styled(f"[{one.title}]", "bold") if one is here else Content.styled(f" {one.title} ", "$text-muted")
            for one in self._snippets
        )
        self.query_one("#snippet-titles", Static).update(Content(" ").join(titles))
        self.query_one("#snippet-text", Static).update(harmless(here.text) if here else "")
