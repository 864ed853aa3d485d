"""The draft model's lanes against a plain record of what its memory holds."""

from __future__ import annotations

import random

from localllm.engine.speculation.lanes import Lanes


class Memory:
    """What llama.cpp would hold: for each sequence, how many positions."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}

    def remove(self, seq_id: int, p0: int = 0, p1: int = -1) -> bool:
        assert p1 == -1
        self.held[seq_id] = min(self.held.get(seq_id, 0), max(p0, 0))
        return True

    def copy(self, src: int, dst: int, p0: int = 0, p1: int = -1) -> None:
        raise AssertionError

    def shift(self, seq_id: int, p0: int, p1: int, delta: int) -> None:
        raise AssertionError


def test_books_are_those_of_the_memory_whatever_happens() -> None:
    rng, memory = random.Random(0), Memory()
    lanes = Lanes(memory, n_cells=200, n_lanes=4)
    texts: dict[int, list[int]] = {}
    for step in range(3000):
        lanes.begin_step()
        owner = rng.randrange(6)
        if owner not in texts or rng.random() < 0.05:
            lanes.release(owner)
            texts[owner] = [rng.randrange(3) for _ in range(rng.randrange(1, 60))]
        tokens = texts[owner]
        tokens += [rng.randrange(3) for _ in range(rng.randrange(3))]
        lane = lanes.take(owner, tokens)
        if lane is not None:
            assert lane.tokens == tokens[: len(lane.tokens)] and len(lane.tokens) < len(tokens)
            added = tokens[len(lane.tokens) :] + [rng.randrange(3) for _ in range(rng.randrange(4))]
            if lanes.make_room(len(added)):
                lane.tokens += added
                memory.held[lane.seq_id] = memory.held.get(lane.seq_id, 0) + len(added)
            held = lanes.n_held(owner, tokens)
            assert lane.tokens[:held] == tokens[:held]
        assert lanes.n_used == sum(memory.held.values()) <= 200, step
    lanes.clear()
    assert lanes.n_used == sum(memory.held.values()) == 0


def test_sequence_that_starts_alike_gets_what_an_ended_one_left() -> None:
    memory = Memory()
    lanes = Lanes(memory, n_cells=100, n_lanes=3)
    for owner, first in enumerate((5, 6)):
        lanes.begin_step()
        lane = lanes.take(owner, [first] * 10)
        assert lane is not None
        lane.tokens += [first] * 10
        lanes.release(owner)
    lanes.begin_step()
    lane = lanes.take(7, [6, 6, 6, 9])
    assert lane is not None and lane.tokens == [6, 6, 6]


def test_two_that_do_not_fit_together_do_not_evict_each_other() -> None:
    lanes = Lanes(Memory(), n_cells=100, n_lanes=2)
    lanes.begin_step()
    first, second = lanes.take(1, [1] * 60), lanes.take(2, [2] * 60)
    assert first is not None and second is not None and lanes.make_room(60)
    first.tokens += [1] * 60
    for _ in range(20):
        lanes.begin_step()
        lanes.take(1, [1] * 61)
        lanes.take(2, [2] * 60)
        assert not lanes.make_room(60)
    for _ in range(6):
        lanes.begin_step()
        lanes.take(2, [2] * 60)
    assert lanes.make_room(60) and lanes.n_held(1, [1] * 60) == 0
