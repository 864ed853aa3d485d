"""Keys that terminals send and Textual does not know: Alt+Enter without kitty's protocol is an escape and a return."""

from __future__ import annotations

from collections.abc import MutableMapping
from enum import StrEnum
from typing import cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS


class TerminalKey(StrEnum):
    """A key by Textual's name for it."""

    ALT_ENTER = "alt+enter"


_SEQUENCES = {"\x1b\r": (TerminalKey.ALT_ENTER,)}


def know_more_keys() -> None:
    """Teach Textual the sequences; twice is as good as once."""
    known = cast(MutableMapping[str, object], ANSI_SEQUENCES_KEYS)
    for sequence, keys in _SEQUENCES.items():
        known.setdefault(sequence, keys)
