"""Keys as terminals send them."""

from __future__ import annotations

from textual import events
from textual._xterm_parser import XTermParser

from tui.terminal_keys import know_more_keys


def test_escape_and_return_in_one_are_alt_enter_and_a_return_is_enter() -> None:
    know_more_keys()
    keys = [event.key for event in XTermParser().feed("\x1b\r\rx") if isinstance(event, events.Key)]
    assert keys == ["alt+enter", "enter", "x"]
