"""A line of text, as the strip of the screen that it becomes."""

from __future__ import annotations

from collections.abc import Callable

from rich.segment import Segment
from textual.content import Content
from textual.strip import Strip
from textual.style import Style

from tui.markdown import Line

GetStyle = Callable[[str | Style], Style]


def draw(line: Line, width: int, shift: int, base: Style, get_style: GetStyle) -> Strip:
    """Return the whole line, moved and cut to `width`, with marks where a wide one goes on."""
    style = base + get_style(line.style) if line.style else base
    whole = drawn(line.content, style, get_style)
    if not line.is_wide:
        return whole.crop(0, width).extend_cell_length(width, style.rich_style)
    shift = max(min(shift, whole.cell_length - width), 0)
    strip = whole.crop(shift, shift + width).extend_cell_length(width, style.rich_style)
    mark = style + get_style("$text-muted")
    if whole.cell_length > shift + width:
        strip = Strip.join([strip.crop(0, width - 1), Strip([Segment("›", mark.rich_style)], 1)])
    if shift:
        strip = Strip.join([Strip([Segment("‹", mark.rich_style)], 1), strip.crop(1, width)])
    return strip


def drawn(content: Content, style: Style, get_style: GetStyle) -> Strip:
    """Return a text as it is."""
    parts = content.render(style, end="", parse_style=get_style)
    return Strip([Segment(text, (style + own).rich_style) for text, own in parts], content.cell_length)
