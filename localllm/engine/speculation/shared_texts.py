"""What earlier requests said, for the lookups of later ones.

Answers to different requests share passages: a file edited again, a form filled in again. What a draft holds then comes
from another request, and its speed may tell of it, so they are for requests that may know of each other.
"""

from __future__ import annotations

from collections.abc import Sequence

MATCH_ORDER = 6
"""Tokens that must match before another request's text is believed."""
MAX_TEXT_TOKENS = 1 << 18


class SharedTexts:
    """The newest finished sequences, and where each n-gram of them occurred last.

    Args:
        max_tokens: of all sequences together; the oldest go first.
    """

    def __init__(self, max_tokens: int = MAX_TEXT_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._texts: dict[int, list[int]] = {}
        self._follows: dict[tuple[int, ...], tuple[int, int]] = {}
        self._next = 0
        self.n_tokens = 0

    def add(self, tokens: Sequence[int]) -> None:
        """Take in a finished sequence, prompt and output; of a longer one than all there is room for, the end."""
        text = list(tokens[-self._max_tokens :])
        if len(text) <= MATCH_ORDER:
            return
        while self.n_tokens + len(text) > self._max_tokens:
            self._drop_oldest()
        number, self._next = self._next, self._next + 1
        self._texts[number] = text
        self.n_tokens += len(text)
        for end in range(MATCH_ORDER, len(text)):
            self._follows[tuple(text[end - MATCH_ORDER : end])] = (number, end)

    def lookup(self, tokens: Sequence[int]) -> tuple[list[int], int] | None:
        """Return the newest text that has the n-gram which ends `tokens`, and the position after it there."""
        found = self._follows.get(tuple(tokens[-MATCH_ORDER:]))
        return None if found is None else (self._texts[found[0]], found[1])

    def _drop_oldest(self) -> None:
        number = next(iter(self._texts))
        text = self._texts.pop(number)
        self.n_tokens -= len(text)
        for end in range(MATCH_ORDER, len(text)):
            gram = tuple(text[end - MATCH_ORDER : end])
            if (found := self._follows.get(gram)) is not None and found[0] == number:
                del self._follows[gram]
