"""Two processes that want the same file: one fetches it, the other waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from localllm.errors import RequestError
from localllm.gguf.problems import printable
from localllm.hub.transfer import Stopped

_POLL_S = 0.2


@contextmanager
def held(lock: Path, on_wait: Callable[[], None], stop: Event) -> Iterator[None]:
    """Hold a lock, which ends with the process at the latest.

    Args:
        lock: a file; it stays. huggingface_hub locks the same way.
        on_wait: called once if another process has it.
        stop: ends the wait.

    Raises:
        Stopped: `stop` was set.
        RequestError: the file cannot be made.
    """
    from filelock import FileLock, Timeout

    # As huggingface_hub does: others of the group may share the cache, and its locks.
    handle = FileLock(lock, mode=0o664)
    has_said = False
    while True:
        try:
            handle.acquire(timeout=0)
            break
        except Timeout:
            if not has_said:
                has_said = True
                on_wait()
            if stop.wait(_POLL_S):
                raise Stopped from None
        except OSError as error:
            raise RequestError(
                f"Cannot lock {printable(str(lock), 200)}: {error.strerror}.", hint="Check its rights."
            ) from error
    try:
        yield
    finally:
        handle.release()
