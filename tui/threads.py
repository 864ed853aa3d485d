"""Slow work on threads that the end of the app need not wait for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def on_a_thread(work: Callable[[], T]) -> T:
    """Run `work` on a thread of its own, and return its result.

    For what may take minutes, or wait for a server: the threads of `asyncio.to_thread` are joined when the app ends.

    Raises:
        BaseException: what `work` raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not done.done():
            set_it()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            end = lambda: done.set_exception(failure)  # noqa: E731
        else:
            end = lambda: done.set_result(result)  # noqa: E731
        # The app may have ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, end)

    threading.Thread(target=run, daemon=True).start()
    return await done


def teller(tell: Callable[..., None]) -> Callable[..., None]:
    """Return what calls `tell` on the interface's thread, from any thread, if the app is still there."""
    loop = asyncio.get_running_loop()

    def call(*args: object) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, *args)

    return call
