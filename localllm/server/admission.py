"""How many requests may run or wait at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from localllm.server.errors import Overloaded


class Admission:
    """Counts requests; used on the event loop only."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self.n_active = 0
        self.n_refused = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for as long as the block runs.

        Raises:
            Overloaded: all are taken.
        """
        if self.n_active >= self._max_requests:
            self.n_refused += 1
            raise Overloaded(f"{self.n_active} requests are running or waiting; {self._max_requests} are allowed.")
        self.n_active += 1
        try:
            yield
        finally:
            self.n_active -= 1
