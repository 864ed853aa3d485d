"""How far a download is, how fast, and how long it still takes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 15.0
"""The speed is of this long, so that it follows the line and does not jump."""
MIN_INTERVAL_S = 0.1


@dataclass(frozen=True)
class PullProgress:
    """A download at one moment."""

    n_done_bytes: int
    """What is on the disk, of all files, earlier runs included."""
    n_total_bytes: int | None
    """None: the server does not say."""
    bytes_s: float
    """0.0 before anything is known."""

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this speed; None where that is not known."""
        if self.n_total_bytes is None or self.bytes_s <= 0:
            return None
        return (self.n_total_bytes - self.n_done_bytes) / self.bytes_s


OnProgress = Callable[[PullProgress], None]


class Meter:
    """Adds up what comes, on any thread.

    Args:
        n_total_bytes: of all files.
        on_progress: called at most every tenth of a second, and never by two threads at once.
    """

    def __init__(self, n_total_bytes: int | None, on_progress: OnProgress) -> None:
        self._n_total_bytes = n_total_bytes
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._n_done = 0
        self._n_fetched = 0
        self._said_at = 0.0
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    @property
    def n_fetched_bytes(self) -> int:
        """What has come over the network."""
        return self._n_fetched

    def expect(self, n_total_bytes: int | None) -> None:
        """Set how much there will be."""
        with self._lock:
            self._n_total_bytes = n_total_bytes

    def found(self, n_bytes: int) -> None:
        """Count what was there already; fewer than 0 takes back."""
        with self._lock:
            self._n_done += n_bytes
            self._say(is_last=False)

    def add(self, n_bytes: int) -> None:
        """Count what came; fewer than 0 takes back what has to come again."""
        with self._lock:
            self._n_done += n_bytes
            self._n_fetched += max(0, n_bytes)
            self._say(is_last=self._n_done == self._n_total_bytes)

    def _say(self, *, is_last: bool) -> None:
        now = time.monotonic()
        if now - self._said_at < MIN_INTERVAL_S and not is_last:
            return
        self._said_at = now
        self._marks.append((now, self._n_fetched))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        since, n_before = self._marks[0]
        speed = (self._n_fetched - n_before) / (now - since) if now > since else 0.0
        self._on_progress(PullProgress(self._n_done, self._n_total_bytes, speed))
