"""One line on the screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from textual.content import Content
from textual.strip import Strip


@dataclass(slots=True, eq=False)
class Line:
    """One line, as wide as it is; what draws it cuts it and fills the rest."""

    make: Content | Callable[[], Content]
    """A function where making it is work that only lines on the screen deserve."""
    style: str = ""
    """Of the whole line, to the right edge."""
    is_wide: bool = False
    """It may be wider than there is room, and is then moved sideways."""
    strip: tuple[object, Strip] | None = field(default=None, repr=False)
    """What was drawn of it, and with what: kept by what draws it."""

    @property
    def content(self) -> Content:
        """What the line says."""
        if callable(self.make):
            self.make = self.make()
        return self.make


def blank() -> Line:
    """Return a line with nothing on it."""
    return Line(Content(""))
