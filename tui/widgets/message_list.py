"""A scrolling list of messages that draws only what is on the screen.

It is one widget with lines of its own (Textual's line API) instead of a widget for each message: nothing is mounted or
unmounted as one scrolls, and a conversation of thousands of messages opens as quickly as an empty one. A message is
laid out when it first comes near the screen. Until then its height is a guess; when a guess above the screen turns out
wrong, the scroll position moves with it, so that what one reads stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style

from tui.markdown import Line
from tui.widgets.line_drawing import draw, drawn
from tui.widgets.message_heights import MessageHeights
from tui.widgets.message_view import MessageView, estimated_lines

if TYPE_CHECKING:
    from localllm.conversations import Node

GUTTER = 3
_WIDEST = 120
"""Columns of text: longer lines are hard to read."""
_HINT = " ↓ new · End "
_N_KEPT = 1000
"""Lines that are kept, of the messages nearest to the screen, and twice as many for a while; of others only the height
is remembered. A line takes three or four kilobytes."""


class MessageList(ScrollView, can_focus=True):
    """Messages, one below the other.

    It stays at the end while messages come, unless one has scrolled up; then a hint says that there is more below.

    Args:
        empty: what is shown where there are no messages.
    """

    ALLOW_SELECT = True
    DEFAULT_CSS = """
    MessageList {
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        background: $background;
    }
    """

    def __init__(self, *, empty: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._empty = empty
        self._shown: list[Node] = []
        self._places: dict[int, int] = {}
        self._views: dict[int, MessageView] = {}
        self._heights = MessageHeights()
        self._laid_width = 0
        self._full_width = 0
        self._style_key = object()
        self._is_settling = False
        self._is_at_end = True
        self._has_new = False
        self._seen = (0, False)
        self._chosen: int | None = None

    @property
    def nodes(self) -> Sequence[Node]:
        """The messages, in order."""
        return self._shown

    @property
    def is_at_end(self) -> bool:
        """Say whether what comes will be seen."""
        return self._is_at_end

    @property
    def allow_select(self) -> bool:
        return True

    @property
    def n_laid_out(self) -> int:
        """How many messages are held as lines."""
        return len(self._views)

    def show(self, nodes: Sequence[Node], *, empty: str | None = None) -> None:
        """Show other messages, from their end."""
        self._empty = self._empty if empty is None else empty
        self._shown = list(nodes)
        self._places = {node.id: place for place, node in enumerate(self._shown)}
        self._views.clear()
        self._chosen = None
        self._is_at_end, self._has_new = True, False
        self._estimate()
        self._settle()

    def view(self, node_id: int) -> MessageView:
        """Return how a message is shown.

        Raises:
            KeyError: it is not among the messages.
        """
        view = self._views.get(node_id)
        if view is None:
            node = self._shown[self._places[node_id]]
            view = self._views[node_id] = MessageView(node, is_growing=node.state == "writing")
        return view

    def scroll_to_message(self, node_id: int) -> None:
        """Bring a message to the top of the screen, as far as there is text below it."""
        place = self._places[node_id]
        self._measure(place)
        self._go_to(self._heights.top(place))

    def set_empty(self, empty: str) -> None:
        """Change what is shown where there are no messages."""
        self._empty = empty
        self.refresh()

    def _append(self, node: Node) -> None:
        self._places[node.id] = len(self._shown)
        self._shown.append(node)
        self._heights.append(estimated_lines(node, self._width))

    def _cut(self, n: int) -> None:
        for node in self._shown[n:]:
            self._views.pop(node.id, None)
            del self._places[node.id]
        del self._shown[n:]
        self._heights.cut(n)
        if self._chosen is not None and self._chosen >= n:
            self._chosen = None

    def _changed(self, node_id: int, *, is_new: bool = False) -> None:
        """Lay a message out again, in its place; with something new in it, the hint says so."""
        place = self._places[node_id]
        if self._width <= 0:
            return
        top, n_lines = self._heights.top(place), self._heights.height(place)
        grown = self._heights.measure(place, len(self.view(node_id).lines(self._width)))
        self._has_new = self._has_new or (is_new and not self._is_at_end)
        if top + n_lines <= self.scroll_y and not self._is_at_end:
            self._settle(grown)
        else:
            self._settle(first_line=top + self.view(node_id).n_unchanged)

    @property
    def _width(self) -> int:
        return min(self.scrollable_content_region.width - GUTTER, _WIDEST)

    def _estimate(self) -> None:
        self._laid_width = width = self._width
        self._full_width = self.scrollable_content_region.width
        self._heights = MessageHeights([estimated_lines(node, width) for node in self._shown])

    def _measure(self, place: int) -> int:
        if self._heights.is_exact(place):
            return 0
        return self._heights.measure(place, len(self.view(self._shown[place].id).lines(self._width)))

    def _settle(self, moved: int = 0, first_line: int = 0) -> None:
        """Measure what is on the screen, and keep in its place what is read.

        Args:
            moved: lines by which what is read has moved already.
            first_line: nothing above it has changed.
        """
        if self._is_settling or self._width <= 0:
            return
        self._is_settling = True
        try:
            top = self._measured_end() if self._is_at_end else self._measured_from(round(self.scroll_y) + moved)
            self._resize_scrolled()
            self.scroll_y = self.scroll_target_y = top
            self._is_at_end = self.scroll_y >= self.max_scroll_y
            self._has_new = self._has_new and not self._is_at_end
        finally:
            self._is_settling = False
        self._forget_far()
        if self._seen != (top, self._has_new):
            self._seen = top, self._has_new
            self.refresh()
        elif (n_above := max(first_line - top, 0)) < self.size.height:
            self.refresh(Region(0, n_above, self.size.width, self.size.height - n_above))

    def _resize_scrolled(self) -> None:
        """Tell the scrollbar how much there is: it is always there, so the screen need not be laid out anew."""
        self.set_reactive(MessageList.virtual_size, Size(self.size.width, self._heights.total))
        self.vertical_scrollbar.window_virtual_size = self._heights.total

    def _measured_end(self) -> int:
        height = self.size.height
        n_lines = 0
        for place in reversed(range(len(self._shown))):
            if n_lines >= height:
                break
            self._measure(place)
            n_lines += self._heights.height(place)
        return max(self._heights.total - height, 0)

    def _measured_from(self, top: int) -> int:
        """Measure what shows below line `top`; return the line that the top has become."""
        height = self.size.height
        while self._shown:
            first, last = self._heights.at(top), self._heights.at(top + height - 1)
            guessed = [place for place in range(first, last + 1) if not self._heights.is_exact(place)]
            if not guessed:
                break
            known = next((place for place in range(first, last + 1) if self._heights.is_exact(place)), None)
            for place in guessed:
                grown = self._measure(place)
                if known is not None and place < known:
                    top += grown
        return max(min(top, self._heights.total - height), 0)

    def _forget_far(self) -> None:
        n_lines = {node_id: self._heights.height(self._places[node_id]) for node_id in self._views}
        if sum(n_lines.values()) <= 2 * _N_KEPT:
            return
        here, n_nearer = self._heights.at(round(self.scroll_y)), 0
        for node_id in sorted(self._views, key=lambda node_id: abs(self._places[node_id] - here)):
            view = self._views[node_id]
            if n_nearer > _N_KEPT and not (view.is_open or view.shift or view.is_growing):
                del self._views[node_id]
            n_nearer += n_lines[node_id]

    def _go_to(self, line: int) -> None:
        self._is_at_end = False
        self._is_settling = True
        self.scroll_y = self.scroll_target_y = line
        self._is_settling = False
        self._settle()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._is_settling and round(old_value) != round(new_value):
            self._is_at_end = new_value >= self.max_scroll_y
            self._settle()

    def on_resize(self, event: events.Resize) -> None:
        if self._width != self._laid_width:
            place = self._heights.at(round(self.scroll_y))
            self._estimate()
            if self._shown and not self._is_at_end:
                self._measure(place)
                self._go_to(self._heights.top(place))
        self._settle()

    def notify_style_update(self) -> None:
        self._style_key = object()
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        if not self._shown:
            return self._empty_line(y, self._full_width)
        number = y + round(self.scroll_y)
        place = self._heights.at(number)
        view = self.view(self._shown[place].id)
        lines = view.lines(self._laid_width)
        at = number - self._heights.top(place)
        if not 0 <= at < len(lines):
            return Strip.blank(self._full_width, self._base)
        is_marked = at < len(lines) - 1 and self._is_marked(place)
        strip = self._drawn(lines[at], view.shift, number, is_marked)
        return self._hinted(strip, self._full_width) if self._has_new and y == self.size.height - 1 else strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        first = selection.start.y if selection.start else 0
        last = min(selection.end.y if selection.end else self._heights.total, self._heights.total - 1)
        texts = []
        for number in range(first, last + 1):
            start, end = selection.get_span(number) or (0, -1)
            text = self._text_at(number)
            texts.append(text[start:] if end == -1 else text[start:end])
        return "\n".join(texts), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        self.refresh()

    def _is_marked(self, place: int) -> bool:
        return place == self._chosen and self.has_focus

    @property
    def _base(self) -> RichStyle:
        return self.visual_style.rich_style

    def _text_at(self, number: int) -> str:
        place = self._heights.at(number)
        lines = self.view(self._shown[place].id).lines(self._width)
        at = number - self._heights.top(place)
        return lines[at].content.plain if at < len(lines) else ""

    def _drawn(self, line: Line, shift: int, number: int, is_marked: bool) -> Strip:
        selection = self.text_selection
        span = selection.get_span(number) if selection is not None else None
        if span is not None:
            start, end = span
            style = Style.from_rich_style(self.screen.get_component_rich_style("screen--selection"))
            content = line.content.stylize(style, start, None if end == -1 else end)
            return self._draw(Line(content, line.style, line.is_wide), shift, number, is_marked)
        key = (self._style_key, shift, number, is_marked, self._full_width)
        if line.strip is None or line.strip[0] != key:
            line.strip = key, self._draw(line, shift, number, is_marked)
        return line.strip[1]

    def _draw(self, line: Line, shift: int, number: int, is_marked: bool) -> Strip:
        strip = draw(line, self._laid_width, shift, self.visual_style, self._get_style)
        strip = strip.apply_offsets(shift if line.is_wide else 0, number)
        return Strip.join([self._gutter(is_marked), strip]).extend_cell_length(self._full_width, self._base)

    def _gutter(self, is_marked: bool) -> Strip:
        style = self.visual_style + self._get_style("$primary") if is_marked else self.visual_style
        return Strip([Segment(" ▌ " if is_marked else "   ", style.rich_style)], GUTTER)

    def _hinted(self, strip: Strip, width: int) -> Strip:
        style = self.visual_style + self._get_style("bold $background on $primary") + Style.from_meta({"end": True})
        hint = drawn(Content(_HINT), style, self._get_style)
        return Strip.join([strip.crop(0, width - hint.cell_length), hint])

    def _empty_line(self, y: int, width: int) -> Strip:
        lines = [line for text in self._empty.split("\n") for line in Content(text).wrap(max(width - 4, 1))]
        at = y - max((self.size.height - len(lines)) // 2, 0)
        if not 0 <= at < len(lines):
            return Strip.blank(width, self._base)
        left = (width - lines[at].cell_length) // 2
        muted = self.visual_style + self._get_style("$text-muted")
        strip = Strip.join([Strip.blank(left, self._base), drawn(lines[at], muted, self._get_style)])
        return strip.extend_cell_length(width, self._base)
