"""A few downloads at once, on threads that Ctrl-C need not wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from localllm.hub.transfer import Stopped

_END_S = 2.0
"""Threads that wait for a silent server are left behind after this long; what they wrote is sound at any moment."""


def run_all(jobs: Sequence[Callable[[], None]], n_threads: int, stop: threading.Event) -> None:
    """Run all jobs, a few at once.

    Args:
        stop: set when one fails, on Ctrl-C, or by whoever no longer wants them; the jobs watch it.

    Raises:
        Stopped: `stop` was set by somebody else.
        BaseException: what the first job that failed raised, or KeyboardInterrupt.
    """
    todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            while not stop.is_set():
                todo.get_nowait()()
        except queue.Empty:
            pass
        except BaseException as error:
            failures.put(error)
            stop.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(n_threads, len(jobs)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            # In turns: a wait without end cannot be interrupted on Windows.
            while thread.is_alive() and not stop.is_set():
                thread.join(0.1)
        is_stopped = stop.is_set()
    finally:
        stop.set()
        for thread in threads:
            thread.join(_END_S)
    if not failures.empty():
        raise failures.get()
    if is_stopped:
        raise Stopped
