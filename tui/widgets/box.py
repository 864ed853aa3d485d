"""A box for one line of text that leaves Enter to its screen, where it has a name, is shown, and can be another key."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class Box(Input, inherit_bindings=False):
    """One line of text, one line high."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for binding in Input.BINDINGS if not (isinstance(binding, Binding) and binding.key == "enter")
    ]
    DEFAULT_CSS = """
    Box {
        border: none;
        height: 1;
        padding: 0 1;
        background: $panel;
        &:focus { border: none; background-tint: transparent 0%; }
    }
    """
