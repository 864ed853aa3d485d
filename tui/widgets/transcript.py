"""The messages of a conversation, and what one can do with each of them by a key."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer

from tui.widgets.message_list import MessageList
from tui.widgets.message_view import MessageView

if TYPE_CHECKING:
    from localllm.conversations import Node

_COALESCED_S = 0.04
"""Between two looks at what has streamed: faster than one reads, and slow enough that typing never waits."""
_BUSY_SHARE = 0.25
"""Of the time, at most so much goes into laying out what streams."""
_SIDEWAYS = 8


class Transcript(MessageList):
    """A conversation that one reads, walks through and acts upon.

    It only shows and asks: each action that is not its own is a message to the screen, with the node it is about.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "line_up", "Up", id="transcript.up", show=False),
        Binding("down", "line_down", "Down", id="transcript.down", show=False),
        Binding("k", "previous_message", "Previous message", id="transcript.previous", show=False),
        Binding("j", "next_message", "Next message", id="transcript.next", show=False),
        Binding("pageup", "page(-1)", "Page up", id="transcript.page-up", show=False),
        Binding("pagedown,space", "page(1)", "Page down", id="transcript.page-down", show=False),
        Binding("home", "first", "First message", id="transcript.first", show=False),
        Binding("end", "last", "Last message", id="transcript.last", show=False),
        Binding("y", "copy", "Copy", id="transcript.copy", tooltip="Copy the chosen message"),
        Binding(
            "Y",
            "copy_code",
            "Copy code",
            id="transcript.copy-code",
            tooltip="Copy its last code; again: the one before",
        ),
        Binding("e", "edit", "Edit", id="transcript.edit", tooltip="Ask the chosen question in other words"),
        Binding("r", "regenerate", "Regenerate", id="transcript.regenerate", tooltip="Answer once more"),
        Binding("c", "continue", "Continue", id="transcript.continue", tooltip="Go on with the chosen answer"),
        Binding("left,left_square_bracket", "sibling(-1)", "Branch before", id="transcript.branch-before", show=False),
        Binding("right,right_square_bracket", "sibling(1)", "Branch after", id="transcript.branch-after", show=False),
        Binding(
            "enter", "details", "Details", id="transcript.details", tooltip="Open thinking, tool calls and long pastes"
        ),
        Binding("t", "tokens", "Tokens", id="transcript.tokens", tooltip="Show each token's probability"),
        Binding("shift+left,less_than_sign", "sideways(-1)", "Wide lines left", id="transcript.left", show=False),
        Binding("shift+right,greater_than_sign", "sideways(1)", "Wide lines right", id="transcript.right", show=False),
    ]

    class OfNode(Message):
        """Something is asked for that is about one message."""

        def __init__(self, transcript: Transcript, node: Node) -> None:
            super().__init__()
            self.transcript = transcript
            self.node = node

        @property
        def control(self) -> Transcript:
            return self.transcript

    class Chosen(OfNode):
        """Another message is the one that keys are about."""

    class EditRequested(OfNode):
        """A question shall be asked in other words."""

    class RegenerateRequested(OfNode):
        """A message shall be answered once more."""

    class ContinueRequested(OfNode):
        """An answer shall go on where it ended."""

    class TokensRequested(OfNode):
        """The probabilities of an answer's tokens are wanted."""

    class SiblingRequested(OfNode):
        """Another branch is wanted: `by` is -1 or 1."""

        def __init__(self, transcript: Transcript, node: Node, by: int) -> None:
            super().__init__(transcript, node)
            self.by = by

    def __init__(self, *, empty: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(empty=empty, id=id, classes=classes)
        self._arrived: dict[int, _Arrived] = {}
        self._timer: Timer | None = None
        self._took_s = 0.0
        self._copied_code: tuple[int, int] | None = None

    @property
    def chosen(self) -> Node | None:
        """The message that keys are about: the one that was walked to, else the last."""
        if not self._shown:
            return None
        return self._shown[-1 if self._chosen is None else self._chosen]

    def show(self, nodes: Sequence[Node], *, empty: str | None = None) -> None:
        """Show another conversation, or another branch, from its end."""
        self._arrived.clear()
        super().show(nodes, empty=empty)

    def begin(self, node: Node) -> None:
        """Add a message; with the state "writing" it may stream."""
        self._append(node)
        self._changed(node.id, is_new=True)

    def stream_text(self, node_id: int, text: str) -> None:
        """Add to an answer. Many calls become one change of the screen."""
        self._arrive(node_id).text.append(text)

    def stream_reasoning(self, node_id: int, text: str) -> None:
        """Add to what is thought before an answer."""
        self._arrive(node_id).reasoning.append(text)

    def finish(self, node: Node) -> None:
        """Show a message as it is at its end."""
        if node.id in self._places:
            self._take_in(node.id)
            self.view(node.id).finish(node)
            self.update_node(node)

    def update_node(self, node: Node) -> None:
        """Show what has changed about a message, its text apart."""
        self._shown[self._places[node.id]] = node
        view = self.view(node.id)
        view.node = node
        view.forget()
        self._changed(node.id)

    def remove_after(self, node_id: int | None) -> None:
        """Take away all messages after one; None: all."""
        n = 0 if node_id is None else self._places[node_id] + 1
        for node in self._shown[n:]:
            self._arrived.pop(node.id, None)
        self._cut(n)
        self._settle()

    def choose(self, node_id: int) -> None:
        """Make a message the one that keys are about, and show it."""
        self._choose(self._places[node_id])
        self.scroll_to_message(node_id)

    def _arrive(self, node_id: int) -> _Arrived:
        if self._timer is None:
            self._timer = self.set_timer(max(_COALESCED_S, self._took_s / _BUSY_SHARE), self._flush)
        return self._arrived.setdefault(node_id, _Arrived())

    def _flush(self) -> None:
        began_s = perf_counter()
        self._timer = None
        for node_id in list(self._arrived):
            if node_id in self._places:
                self._take_in(node_id)
                self._changed(node_id, is_new=True)
        self._arrived.clear()
        self._took_s = perf_counter() - began_s

    def _take_in(self, node_id: int) -> None:
        arrived = self._arrived.pop(node_id, None)
        if arrived is None:
            return
        view = self.view(node_id)
        if arrived.reasoning:
            view.feed_reasoning("".join(arrived.reasoning))
        if arrived.text:
            view.feed_text("".join(arrived.text))

    def on_focus(self) -> None:
        if self._shown and (self._chosen is None or not self._is_on_screen(self._chosen)):
            self._choose(self._heights.at(round(self.scroll_y) + self.size.height - 2))

    def on_click(self, event: events.Click) -> None:
        if not self._shown:
            return
        number = event.y + self.scroll_offset.y
        if number < self._heights.total:
            self._choose(self._heights.at(number))
        self._follow(event.style.meta)

    def _follow(self, meta: dict[str, object]) -> None:
        if isinstance(by := meta.get("sibling"), int):
            self.action_sibling(by)
        elif isinstance(number := meta.get("code"), int):
            self._copy_code(number)
        elif isinstance(url := meta.get("link"), str):
            self._open(url)
        elif "toggle" in meta:
            self.action_details()
        elif "end" in meta:
            self.action_last()

    def _open(self, url: str) -> None:
        if url.startswith(("https://", "http://")):
            self.app.open_url(url)
        else:
            self._notify(f"Only links of the web are opened, not {url}")

    def _is_on_screen(self, place: int) -> bool:
        top, bottom = self._span(place)
        return bottom > self.scroll_y and top < self.scroll_y + self.size.height

    def _span(self, place: int) -> tuple[int, int]:
        top = self._heights.top(place)
        return top, top + self._heights.height(place)

    def _choose(self, place: int) -> None:
        if place != self._chosen:
            self._chosen = place
            self._copied_code = None
            self.post_message(self.Chosen(self, self._shown[place]))
            self.refresh()

    def _walk(self, by: int) -> None:
        if not self._shown:
            return
        here = len(self._shown) - 1 if self._chosen is None else self._chosen
        place = here + by if self._is_on_screen(here) else self._heights.at(round(self.scroll_y))
        place = max(0, min(place, len(self._shown) - 1))
        self._choose(place)
        self._reveal(place)

    def _reveal(self, place: int) -> None:
        self._measure(place)
        top, bottom = self._span(place)
        height = self.size.height
        if top < self.scroll_y or bottom - top > height:
            self._go_to(top)
        elif bottom > self.scroll_y + height:
            self._go_to(bottom - height)

    def _move(self, n_lines: int) -> None:
        self.scroll_to(y=self.scroll_y + n_lines, animate=False)

    def action_line_up(self) -> None:
        """Go up a line in a message that begins above the screen, else to the message before."""
        place = self._chosen
        if place is not None and self._is_on_screen(place) and self._heights.top(place) < self.scroll_y:
            self._move(-1)
        else:
            self._walk(-1)

    def action_line_down(self) -> None:
        """Go down a line in a message that ends below the screen, else to the next message."""
        place = self._chosen
        is_below = place is not None and self._span(place)[1] > self.scroll_y + self.size.height
        if place is not None and self._is_on_screen(place) and is_below:
            self._move(1)
        else:
            self._walk(1)

    def action_previous_message(self) -> None:
        self._walk(-1)

    def action_next_message(self) -> None:
        self._walk(1)

    def action_page(self, by: int) -> None:
        self._move(by * max(self.size.height - 2, 1))
        if self._shown:
            self._choose(self._heights.at(round(self.scroll_y) + (self.size.height - 2 if by > 0 else 0)))

    def action_first(self) -> None:
        if self._shown:
            self._go_to(0)
            self._choose(0)

    def action_last(self) -> None:
        if self._shown:
            self._is_at_end = True
            self._settle()
            self._choose(len(self._shown) - 1)

    def action_copy(self) -> None:
        if self.chosen is not None:
            self._copy(self.view(self.chosen.id).text)

    def action_copy_code(self) -> None:
        node = self.chosen
        if node is None:
            return
        n_codes = len(self.view(node.id).codes())
        if n_codes == 0:
            self._notify("There is no code in this message. y copies its text.")
            return
        last = self._copied_code
        self._copy_code((last[1] - 1) % n_codes if last is not None and last[0] == node.id else n_codes - 1)

    def _copy_code(self, number: int) -> None:
        node = self.chosen
        assert node is not None
        codes = self.view(node.id).codes()
        if number >= len(codes):
            return
        self._copied_code = node.id, number
        self._copy(codes[number], "code" if len(codes) == 1 else f"code block {number + 1} of {len(codes)}")

    def _copy(self, text: str, what: str = "") -> None:
        self.app.copy_to_clipboard(text)
        n_characters = f"{len(text):,} characters"
        self._notify(f"Copied {what}: {n_characters}" if what else f"Copied {n_characters}")

    def _notify(self, text: str) -> None:
        self.notify(text, markup=False)

    def action_edit(self) -> None:
        self._ask(self.EditRequested)

    def action_regenerate(self) -> None:
        self._ask(self.RegenerateRequested)

    def action_continue(self) -> None:
        self._ask(self.ContinueRequested)

    def action_tokens(self) -> None:
        self._ask(self.TokensRequested)

    def _ask(self, kind: type[OfNode]) -> None:
        if self.chosen is not None:
            self.post_message(kind(self, self.chosen))

    def action_sibling(self, by: int) -> None:
        node = self.chosen
        if node is not None and 0 <= node.sibling_index + by < node.n_siblings:
            self.post_message(self.SiblingRequested(self, node, by))

    def action_details(self) -> None:
        node = self.chosen
        if node is not None and self.view(node.id).has_details:
            self.view(node.id).toggle()
            self._changed(node.id)

    def action_sideways(self, by: int) -> None:
        if self.chosen is not None:
            view: MessageView = self.view(self.chosen.id)
            widest = max((line.content.cell_length for line in view.lines(self._width) if line.is_wide), default=0)
            view.shift = max(min(view.shift + by * _SIDEWAYS, widest - self._width), 0)
            self.refresh()


class _Arrived:
    """What has streamed and is not on the screen yet."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
