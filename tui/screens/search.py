"""Full-text search over all conversations, as one types."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content, Span
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from tui.screens.filtered_list import FilteredList
from tui.widgets.conversation_list import UNTITLED, one_line

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore, Hit

N_HITS_MAX = 100
_WHO = {"user": "You", "assistant": "Answer", "tool": "Tool", None: "Title"}


class SearchScreen(FilteredList["Hit"]):
    """Every message and title that has the words; Enter goes there."""

    HEADING = "Search everything"
    KEYS = "Enter goes there · Esc closes"
    PLACEHOLDER = "Words; the last one may be a beginning"

    def __init__(self, store: ConversationStore) -> None:
        super().__init__()
        self._store = store
        self._hits: list[Hit] = []

    def search(self, text: str) -> None:
        if text:
            self._look(text)
        else:
            self._show([], "Type a word that was said in any conversation.")

    @work(thread=True, exclusive=True, group="search")
    def _look(self, text: str) -> None:
        worker = get_current_worker()
        hits = list(self._store.search(text, N_HITS_MAX))
        if not worker.is_cancelled:
            note = "" if hits else "Nothing has all of these words."
            self.app.call_from_thread(self._show, hits, note)

    def _show(self, hits: list[Hit], note: str) -> None:
        self._hits = hits
        self.note(note)
        self.show_options([Option(hit_text(hit)) for hit in hits])

    def take(self, place: int) -> None:
        self.dismiss(self._hits[place])


def hit_text(hit: Hit) -> Content:
    """Return two lines: where it is, and what is around the words, which are marked."""
    when = datetime.fromtimestamp(hit.created_s).strftime("%d %b %Y")
    head = Content.assemble((one_line(hit.title) or UNTITLED, "bold"), (f"  {_WHO[hit.role]} · {when}", "dim"))
    marks = [Span(start, end, "bold reverse") for start, end in hit.spans]
    # Each character stays where it is, or the marks would be elsewhere.
    plain = "".join(char if char.isprintable() else " " for char in hit.snippet)
    return Content("\n").join([head, Content(plain, spans=marks)])
