"""Whose turn it is where running sequences are of several adapter sets, of which a step can carry one.

A switch costs 4 to 5 ms on a CPU, since llama.cpp reserves its graphs anew (SmolLM2 and a 1.5B model alike, two
threads), so a set keeps its turn for a while. Turns are of equal time, whatever each set does with it: a decode of
seven streams takes hardly longer than one of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from localllm.engine.adapters import AdapterSet

TURN_S = 0.1
"""How long a set keeps its turn, in seconds; its last step may end later. A switch is then a twentieth of it."""


class Rota:
    """A queue of adapter sets. A set that is new waits for its turn behind those that are there.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._queue: list[AdapterSet] = []
        self._ends = 0.0

    def choose(self, ready: Collection[AdapterSet]) -> AdapterSet:
        """Return the set that the next step is for.

        Args:
            ready: the different sets of those who can run, at least one, the oldest request's first.
        """
        if len(ready) == 1:
            self._queue, self._ends = [*ready], 0.0
            return self._queue[0]
        current = self._queue[:1]
        self._queue = [adapters for adapters in self._queue if adapters in ready]
        self._queue += [adapters for adapters in ready if adapters not in self._queue]
        now = self._clock()
        if self._queue[:1] == current and now >= self._ends:
            self._queue.append(self._queue.pop(0))
        if self._queue[:1] != current:
            self._ends = now + TURN_S
        return self._queue[0]
