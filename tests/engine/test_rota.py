"""Whose turn it is, among adapter sets."""

from __future__ import annotations

from localllm.engine.adapters import AdapterSet
from localllm.engine.rota import TURN_S, Rota

A: AdapterSet = ((0, 1.0),)
B: AdapterSet = ((1, 1.0),)
C: AdapterSet = ((0, 0.5),)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def served(rota: Rota, clock: Clock, ready: list[AdapterSet], n_steps: int, step_s: float) -> list[AdapterSet]:
    """Run steps that take `step_s`, and return whose they were."""
    whose = []
    for _ in range(n_steps):
        whose.append(rota.choose(ready))
        clock.now += step_s
    return whose


def test_sets_have_turns_of_equal_time() -> None:
    clock = Clock()
    whose = served(Rota(clock), clock, [A, B, C], 300, TURN_S / 9.5)
    assert whose[:10] == [A] * 10 and whose[10:20] == [B] * 10 and whose[20:30] == [C] * 10
    assert [whose.count(adapters) for adapters in (A, B, C)] == [100, 100, 100]


def test_turn_lasts_one_step_where_steps_are_long() -> None:
    clock = Clock()
    assert served(Rota(clock), clock, [A, B], 4, 2 * TURN_S) == [A, B, A, B]


def test_newcomer_has_its_turn_next_when_another_ran_alone() -> None:
    clock = Clock()
    rota = Rota(clock)
    served(rota, clock, [A], 50, 0.01)
    assert rota.choose([A, B]) == B


def test_new_sets_without_end_do_not_keep_an_old_one_from_its_turn() -> None:
    clock = Clock()
    rota = Rota(clock)
    waited = longest = 0
    for number in range(500):
        fresh: list[AdapterSet] = [((0, float(number + k)),) for k in range(1, 4)]
        whose = rota.choose([*fresh, A])
        clock.now += TURN_S
        waited = 0 if whose == A else waited + 1
        longest = max(longest, waited)
    assert longest <= 4


def test_choice_stands_until_time_has_passed() -> None:
    clock = Clock()
    rota = Rota(clock)
    assert {rota.choose([A, B]) for _ in range(20)} == {A}
    assert rota.choose([B, C]) == B
    assert rota.choose([B, A, C]) == B
