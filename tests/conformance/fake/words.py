"""Tokens of the scripted model: up to four letters each, and two bytes of a character that has more."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

_PIECE = re.compile(r" ?\w{1,4}|\s|[^\w\s]")


def pieces(text: str) -> list[bytes]:
    """Return the bytes of each token of a text."""
    found = []
    for match in _PIECE.findall(text):
        data = match.encode()
        found += [data] if data.isascii() else [data[i : i + 2] for i in range(0, len(data), 2)]
    return found


def whole_texts(tokens: Iterable[bytes]) -> list[str]:
    """Return the text that each token adds, never half a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(token) for token in tokens]


class Vocabulary:
    """Ids of tokens, given as they are met."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._pieces: dict[int, bytes] = {}

    def ids(self, text: str) -> list[int]:
        return [self._id(piece) for piece in pieces(text)]

    def piece(self, token: int) -> bytes:
        return self._pieces.get(token, b" t%d" % token)

    def _id(self, piece: bytes) -> int:
        token = self._ids.setdefault(piece, 5000 + len(self._ids))
        self._pieces[token] = piece
        return token
