"""Which n-grams the model has said lately, by their first token."""

from __future__ import annotations

from collections.abc import Sequence


class NgramPool:
    """For each token the last `capacity` continuations of it, the most recent last.

    Source: Fu et al. 2024, section 3.2, the n-gram pool: bounded for each first token, least recently used out first.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._continuations: dict[int, dict[tuple[int, ...], None]] = {}

    def add(self, first: int, continuation: Sequence[int]) -> None:
        """Enter what followed a token, or make it the most recent if it is known."""
        known = self._continuations.setdefault(first, {})
        key = tuple(continuation)
        known.pop(key, None)
        known[key] = None
        if len(known) > self.capacity:
            del known[next(iter(known))]

    def after(self, first: int) -> list[tuple[int, ...]]:
        """Return the continuations of a token, the most recent first."""
        return list(reversed(self._continuations.get(first, ())))
