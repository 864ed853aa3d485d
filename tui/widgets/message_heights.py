"""Where each of thousands of messages stands: estimated until one is looked at, exact from then on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence


class MessageHeights:
    """The heights of messages, in lines, and the line at which each begins."""

    def __init__(self, estimates: Sequence[int] = ()) -> None:
        self._heights = list(estimates)
        self._is_exact = [False] * len(self._heights)
        self._tops = [0]
        self._sum_from(0)

    def __len__(self) -> int:
        return len(self._heights)

    @property
    def total(self) -> int:
        """Lines of all messages."""
        return self._tops[-1]

    def top(self, index: int) -> int:
        """Return the line at which a message begins."""
        return self._tops[index]

    def height(self, index: int) -> int:
        return self._heights[index]

    def is_exact(self, index: int) -> bool:
        return self._is_exact[index]

    def at(self, line: int) -> int:
        """Return the message that a line belongs to; the nearest where there is none."""
        return max(min(bisect_right(self._tops, line) - 1, len(self._heights) - 1), 0)

    def measure(self, index: int, height: int) -> int:
        """Take a message's height for exact; return by how much it differs from what was thought."""
        grown = height - self._heights[index]
        self._is_exact[index] = True
        if grown:
            self._heights[index] = height
            self._sum_from(index)
        return grown

    def append(self, estimate: int) -> None:
        """Take one more message."""
        self._heights.append(estimate)
        self._is_exact.append(False)
        self._tops.append(self._tops[-1] + estimate)

    def cut(self, n: int) -> None:
        """Keep the first `n` messages."""
        del self._heights[n:], self._is_exact[n:], self._tops[n + 1 :]

    def _sum_from(self, index: int) -> None:
        del self._tops[index + 1 :]
        top = self._tops[index]
        for height in self._heights[index:]:
            top += height
            self._tops.append(top)
