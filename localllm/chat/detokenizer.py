"""Turning token pieces into text, one whole character at a time."""

from __future__ import annotations

import codecs


class Utf8Stream:
    """A streaming UTF-8 decoder over token pieces.

    However the bytes are cut, the joined output equals `b"".join(pieces).decode("utf-8", "replace")`.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        """Return the characters that `piece` completes; invalid bytes become U+FFFD."""
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """Return what an unfinished character at the end stands for, and start afresh."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text
