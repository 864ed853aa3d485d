"""Turns for running streams between the operations of a long prompt."""

from __future__ import annotations

import pytest

from localllm.engine.cost import StepCost
from localllm.engine.pacing import Profile, Turns

OPERATIONS_S = [0.001, 0.004, 0.002, 0.003] * 8


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def compute(profile: Profile, clock: Clock, start: int, end: int, *, slower: float = 1.0) -> None:
    profile.resume()
    clock.now += slower * sum(OPERATIONS_S[start:end])
    profile.look(end)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> Profile:
    """A profile that has seen one batch."""
    profile = Profile(clock)
    profile.begin_batch()
    for node in range(len(OPERATIONS_S)):
        assert profile.next_look(1.0) == node + 1
        compute(profile, clock, node, node + 1)
    profile.end_batch()
    profile.begin_batch()
    return profile


def test_first_batch_is_measured_operation_by_operation(known: Profile) -> None:
    assert known.piece_s == pytest.approx(OPERATIONS_S[0])


@pytest.mark.parametrize(
    ("wanted_s", "node"), [(0.0, 2), (0.0045, 2), (0.0055, 2), (0.0065, 3), (0.0085, 3), (0.0095, 4), (0.0105, 5)]
)
def test_next_look_is_after_the_last_operation_that_ends_in_time(
    known: Profile, clock: Clock, wanted_s: float, node: int
) -> None:
    compute(known, clock, 0, 1)
    assert known.next_look(wanted_s) == node


def test_long_wait_is_looked_at_before_it_is_over(known: Profile) -> None:
    node = known.next_look(0.05)
    assert 0.03 < sum(OPERATIONS_S[:node]) < 0.05


def test_slower_machine_is_noticed(known: Profile, clock: Clock) -> None:
    before = known.next_look(0.02)
    for _ in range(12):
        compute(known, clock, 0, 32, slower=2.0)
        known.end_batch()
        known.begin_batch()
    assert known.piece_s == pytest.approx(2 * OPERATIONS_S[0], rel=0.1)
    assert known.next_look(0.02) < before


def test_batch_that_was_given_up_teaches_nothing(clock: Clock) -> None:
    profile = Profile(clock)
    profile.begin_batch()
    compute(profile, clock, 0, 1)
    profile.begin_batch()
    assert profile.next_look(1.0) == 1
    compute(profile, clock, 0, 1)
    assert profile.next_look(1.0) == 2


def test_turn_is_due_when_a_step_would_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    cost = StepCost()
    cost.observe(4, 0, 0.02)
    turns = Turns(lambda: cost)
    turns.begin(4)
    first_s = turns.left_s(4)
    assert first_s == pytest.approx(cost.step_target_s(4) - 0.02)
    clock.now += first_s
    assert turns.left_s(4) == pytest.approx(0.0, abs=1e-9)

    def slow_turn() -> None:
        clock.now += 0.04

    turns.run(slow_turn)
    assert 0 < turns.left_s(4) < first_s
