"""A server that ends with the program that started it, however that ends; unless it is told to stay.

The program holds the other end of stdin. A pipe is closed for whoever dies, also by SIGKILL, and on every system.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

STAY = b"stay\n"
"""The line after which the end of stdin means nothing any more."""


def end_with_stdin(stop: Callable[[], None]) -> None:
    """Call `stop`, on a thread of its own, when stdin ends without having said `STAY`."""
    threading.Thread(target=_watch, args=(stop,), daemon=True, name="lifeline").start()


def _watch(stop: Callable[[], None]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in sys.stdin.buffer:
            if line == STAY:
                return
    stop()
