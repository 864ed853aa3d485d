"""A checkbox that says with a character, not with a colour, whether it is ticked."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Tick(Checkbox):
    """[x] or [ ], and what it means."""

    @property
    def _button(self) -> Content:
        return Content("[x]" if self.value else "[ ]")
