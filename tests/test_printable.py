"""What a terminal is never sent."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from localllm.printable import harmless, marked


def test_an_escape_is_dropped_or_marked() -> None:
    assert harmless("a\x1b[2Jb") == "a[2Jb"
    assert marked("a\x1b[2Jb") == "a␛[2Jb"


def test_directions_are_marked_and_scripts_that_run_from_the_right_stay() -> None:
    assert marked("\u202eevil שלום") == "‹U+202E›evil שלום"


def test_windows_line_ends_are_line_feeds_and_lone_returns_are_marked() -> None:
    assert marked("a\r\nb\rc") == "a\nb␍c"


@given(st.text(alphabet=st.characters()))
def test_marked_text_has_no_control_characters_and_can_be_encoded(text: str) -> None:
    shown = marked(text)
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    shown.encode("utf-8")
