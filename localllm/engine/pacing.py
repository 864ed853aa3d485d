"""When, while a long prompt is computed, the running streams have their turn.

A turn that comes late is a pause the reader sees, one that comes early is lost speed for the newcomer. So the durations
of the operations in between are learned, and the clock is read (a look, about 100 µs) where the next turn is near.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from localllm.engine.cost import StepCost

_PACE_WEIGHT = 0.3
_PACE_S = 0.1
"""A measurement shorter than `_PACE_WEIGHT` times this says less of the pace."""
_APPROACH = 0.8
"""How much of a long wait to let pass before looking again: a prediction is off by a fifth at times."""
_TURN_WEIGHT = 0.3


class Profile:
    """How long the operations of a batch take: measured finely during the first batch, then scaled to the pace of now.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._nodes, self._seconds = [0], [0.0]
        self._is_learning = True
        self._is_known = False
        self._pace = 1.0
        self._node = 0
        self._resumed = clock()
        self._took_s = 0.0

    def begin_batch(self) -> None:
        """A batch begins; until one was seen to its end, it is measured."""
        self._is_learning = not self._is_known
        if self._is_learning:
            self._nodes, self._seconds = [0], [0.0]
        self._node = 0
        self.resume()

    def end_batch(self) -> None:
        """The batch was computed to its end."""
        self._is_known = True

    def look(self, node: int) -> None:
        """The batch's first `node` operations are done."""
        seconds = self._clock() - self._resumed
        if self._is_learning:
            self._nodes.append(node)
            self._seconds.append(self._seconds[-1] + seconds)
        elif (predicted := self._at(node) - self._at(self._node)) > 0:
            weight = min(predicted / _PACE_S, _PACE_WEIGHT)
            self._pace += weight * (seconds / predicted - self._pace)
        self._took_s = max(seconds, 0.7 * self._took_s)
        self._node = node

    def resume(self) -> None:
        """Operations run again."""
        self._resumed = self._clock()

    @property
    def piece_s(self) -> float:
        """Seconds until the next chance to look."""
        if self._is_learning:
            return self._took_s
        return self._pace * (self._at(self._node + 1) - self._at(self._node))

    def next_look(self, wanted_s: float) -> int:
        """Return how many operations will be done `wanted_s` seconds from now; at least one more."""
        if self._is_learning:
            return self._node + 1
        if wanted_s > 3 * self.piece_s:
            wanted_s *= _APPROACH
        until = self._at(self._node) + wanted_s / self._pace
        return max(int(np.interp(until, self._seconds, self._nodes)), self._node + 1)

    def _at(self, node: int) -> float:
        return float(np.interp(node, self._nodes, self._seconds))


class Turns:
    """Says when running streams must have their turn, so that none waits longer than a step may take.

    Args:
        cost: returns what the streams' steps cost.
    """

    def __init__(self, cost: Callable[[], StepCost]) -> None:
        self._cost = cost
        self._last_turn = self._turn_s = 0.0

    def begin(self, n_streams: int) -> None:
        """The streams have just had a turn, in an ordinary step."""
        self._last_turn = time.perf_counter()
        self._turn_s = self._cost().decode_s(n_streams)

    def left_s(self, n_streams: int) -> float:
        """Return the seconds until the streams' turn should begin."""
        begin = self._last_turn + self._cost().step_target_s(n_streams) - self._turn_s
        return begin - time.perf_counter()

    def run(self, turn: Callable[[], None]) -> None:
        """Give the streams their turn."""
        started = time.perf_counter()
        turn()
        self._last_turn = time.perf_counter()
        self._turn_s += _TURN_WEIGHT * (self._last_turn - started - self._turn_s)
