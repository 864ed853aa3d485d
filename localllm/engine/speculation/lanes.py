"""Which tokens the draft model's cache holds, and for which of the engine's sequences.

There is a lane for each slot. What a lane holds stays when its sequence ends, for the next one that starts alike, as
the next turn of a conversation does, until another sequence needs the lane or its cells: the lane that was used
longest ago gives way. A sequence that was preempted keeps its lane in the same way, as long as nobody needs it.

Books alone; `draft_model` computes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from localllm.engine.cell_memory import CellMemory

MAX_IDLE_CELLS = 2048
"""Cells of lanes that are not in use; more of them would slow every decode of the draft model."""
_RECENT = 4
"""A lane that was used so few steps ago is in use: two sequences that do not fit together must not evict each other in
turns, and compute for nothing."""


class Lane:
    """One sequence id of the draft model's context, and the tokens whose cells it holds, from position 0 on."""

    __slots__ = ("last_used", "n_checked", "owner", "seq_id", "tokens")

    def __init__(self, seq_id: int) -> None:
        self.seq_id = seq_id
        self.tokens: list[int] = []
        self.owner: int | None = None
        self.n_checked = 0
        """Tokens that are known to be the owner's."""
        self.last_used = 0


class Lanes:
    """The lanes of a context.

    Args:
        memory: of the context.
        n_cells: of it.
        n_lanes: sequence ids.
    """

    def __init__(self, memory: CellMemory, n_cells: int, n_lanes: int) -> None:
        self._memory = memory
        self._lanes = [Lane(i) for i in range(n_lanes)]
        self._clock = 0
        self.n_cells = n_cells

    @property
    def n_used(self) -> int:
        """Cells in use."""
        return sum(len(lane.tokens) for lane in self._lanes)

    def find(self, owner: int) -> Lane | None:
        return next((lane for lane in self._lanes if lane.owner == owner), None)

    def n_held(self, owner: int, tokens: Sequence[int]) -> int:
        """Return how many of the owner's tokens, from the first on, have cells."""
        lane = self.find(owner)
        if lane is None:
            return 0
        lane.n_checked = _n_common(lane.tokens, tokens, lane.n_checked)
        return lane.n_checked

    def begin_step(self) -> None:
        """Say that the lanes taken from now on are used together."""
        self._clock += 1

    def take(self, owner: int, tokens: Sequence[int]) -> Lane | None:
        """Return the owner's lane, or another that becomes the owner's, cut to what it has in common with its tokens.

        Args:
            owner: a request's id.
            tokens: of its sequence; for each owner the same list, which only grows.

        Returns:
            The lane; it holds fewer tokens than there are, since the last must be computed for its logits. None where
            all are in use.
        """
        lane = self.find(owner)
        if lane is None:
            free = self._idle
            if not free:
                return None
            lane = max(free, key=lambda other: (_n_common(other.tokens, tokens, 0), -other.last_used))
            lane.owner, lane.n_checked = owner, 0
        lane.last_used = self._clock
        n = min(_n_common(lane.tokens, tokens, lane.n_checked), len(tokens) - 1)
        self.cut(lane, n)
        lane.n_checked = n
        return lane

    def release(self, owner: int) -> None:
        """Leave what the owner's lane holds to whoever starts alike, or needs the cells."""
        lane = self.find(owner)
        if lane is not None:
            lane.owner, lane.n_checked = None, 0

    def cut(self, lane: Lane, n: int) -> None:
        """Forget the tokens behind the first `n`."""
        if n < len(lane.tokens):
            self._memory.remove(lane.seq_id, n, -1)
            del lane.tokens[n:]
            lane.n_checked = min(lane.n_checked, n)

    def make_room(self, n: int) -> bool:
        """Empty lanes that are not in use until `n` cells are free; False if that is not enough."""
        idle = self._idle
        n_idle = sum(len(lane.tokens) for lane in idle)
        for lane in idle:
            if self.n_cells - self.n_used >= n and n_idle <= MAX_IDLE_CELLS:
                break
            n_idle -= len(lane.tokens)
            self._empty(lane)
        return self.n_cells - self.n_used >= n

    def clear(self, lanes: Collection[Lane] | None = None) -> None:
        """Empty these lanes; None is all."""
        for lane in self._lanes if lanes is None else lanes:
            self._empty(lane)

    @property
    def _idle(self) -> list[Lane]:
        """The lanes that are not in use, that of longest ago first."""
        idle = (lane for lane in self._lanes if lane.owner is None or lane.last_used < self._clock - _RECENT)
        return sorted(idle, key=lambda lane: lane.last_used)

    def _empty(self, lane: Lane) -> None:
        self._memory.remove(lane.seq_id, -1, -1)
        lane.tokens, lane.owner, lane.n_checked = [], None, 0


def _n_common(held: Sequence[int], tokens: Sequence[int], n_known: int) -> int:
    """Return how many tokens both start with; the first `n_known` are known to be equal."""
    n, end = n_known, min(len(held), len(tokens))
    while n < end and held[n] == tokens[n]:
        n += 1
    return n
