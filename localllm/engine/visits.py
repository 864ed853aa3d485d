"""Computing that is not generation takes turns with it on one thread.

Two threads that compute in one process share its cores through libgomp's spinning teams, and both become half as fast.
So whatever else computes is a visitor: the engine's loop lets it in between two steps, for as long as a step may take.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger("localllm.engine")

_ALONE_S = 0.5
"""What a visitor is told that it may take where nobody else waits: so long may a newcomer have to wait."""


class Visitor(Protocol):
    """Work done a piece at a time. All methods are called on the one thread that computes."""

    @property
    def has_work(self) -> bool: ...

    def visit(self, budget_s: float) -> None:
        """Do a piece of the work that takes about `budget_s` seconds at most."""

    def close(self) -> None:
        """End all work, and free what it holds."""


class VisitorThread:
    """A thread for a visitor alone, where there is no engine to visit.

    Args:
        visitor: closed on the thread, at the end.
        after_step: called on the thread after each visit.
    """

    def __init__(self, visitor: Visitor, after_step: Callable[[], None] | None = None) -> None:
        self._visitor = visitor
        self._after_step = after_step or (lambda: None)
        self._awake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="localllm-visitor", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it takes work: neither closed nor failed."""
        return not self._closed.is_set()

    def wake(self) -> None:
        """Say that the visitor may have work now. Any thread may call it."""
        self._awake.set()

    def close(self) -> None:
        """End the thread and close the visitor. Closing twice is harmless."""
        self._closed.set()
        self._awake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._awake.wait()
                self._awake.clear()
                while self._visitor.has_work and not self._closed.is_set():
                    self._visitor.visit(_ALONE_S)
                    self._after_step()
        except BaseException:
            log.exception("the visitor failed")
        finally:
            self._closed.set()
            self._visitor.close()
            self._after_step()
