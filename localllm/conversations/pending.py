"""What was received or typed and is not in the file yet: kept here for less than a second, which saves writes."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

FLUSH_S = 0.3
"""The longest that something waits here."""
RETRY_S = 5.0
"""Between two looks whether a file that refused takes writes again."""


@dataclass
class Taken:
    """What waited."""

    texts: dict[int, str] = field(default_factory=dict)
    reasonings: dict[int, str] = field(default_factory=dict)
    drafts: dict[int, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.reasonings or self.drafts)


class Pending:
    """Pieces of messages, and drafts; its own lock, never held while something is written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[int, list[str]] = defaultdict(list)
        self._reasonings: dict[int, list[str]] = defaultdict(list)
        self._drafts: dict[int, str] = {}
        self.arrived = threading.Event()

    @property
    def is_empty(self) -> bool:
        return not (self._texts or self._reasonings or self._drafts)

    def append(self, node_id: int, text: str, reasoning: str) -> None:
        """Take more of a message."""
        with self._lock:
            if text:
                self._texts[node_id].append(text)
            if reasoning:
                self._reasonings[node_id].append(reasoning)
        self.arrived.set()

    def draft(self, conversation_id: int, text: str) -> None:
        """Take what is typed now."""
        with self._lock:
            self._drafts[conversation_id] = text
        self.arrived.set()

    def take(self) -> Taken:
        """Give up all that waits."""
        with self._lock:
            taken = Taken(
                {id_: "".join(pieces) for id_, pieces in self._texts.items()},
                {id_: "".join(pieces) for id_, pieces in self._reasonings.items()},
                dict(self._drafts),
            )
            self._texts.clear()
            self._reasonings.clear()
            self._drafts.clear()
            self.arrived.clear()
        return taken

    def give_back(self, taken: Taken) -> None:
        """Have what could not be written wait again, before what came meanwhile."""
        with self._lock:
            for id_, text in taken.texts.items():
                self._texts[id_].insert(0, text)
            for id_, text in taken.reasonings.items():
                self._reasonings[id_].insert(0, text)
            self._drafts = taken.drafts | self._drafts
        self.arrived.set()


class Clock(threading.Thread):
    """Has what waits written soon, also while nothing else happens.

    Args:
        pending: what waits.
        flush: writes it.
        begin: done once, first, in this thread.
        rest: done now and then while nothing waits.
    """

    def __init__(
        self, pending: Pending, flush: Callable[[], None], begin: Callable[[], None], rest: Callable[[], None]
    ) -> None:
        super().__init__(name="conversations", daemon=True)
        self._pending = pending
        self._flush = flush
        self._begin = begin
        self._rest = rest
        self._is_over = threading.Event()

    def run(self) -> None:
        """Wait, and write."""
        self._begin()
        while not self._is_over.is_set():
            if self._pending.arrived.wait(RETRY_S):
                self._is_over.wait(FLUSH_S)
                self._flush()
            else:
                self._rest()

    def end(self) -> None:
        """Write nothing more, and return when nothing is being written."""
        self._is_over.set()
        self._pending.arrived.set()
        self.join()
