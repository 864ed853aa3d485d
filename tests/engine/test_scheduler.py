"""What a step carries, where there are several adapter sets."""

from __future__ import annotations

import pytest

from localllm.engine import GenerationRequest
from localllm.engine.adapters import AdapterSet
from localllm.engine.sampling import Greedy
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence

A: AdapterSet = ((0, 1.0),)
B: AdapterSet = ((1, 1.0),)


def sequence(request_id: int, adapters: AdapterSet, n_prompt: int, n_past: int = 0) -> Sequence:
    request = GenerationRequest(prompt=tuple(range(n_prompt)))
    made = Sequence(request_id, request, lambda event: None, Greedy(), None, None, 0.0, adapters)
    made.n_past = n_past
    return made


@pytest.fixture
def scheduler() -> Scheduler:
    scheduler = Scheduler(n_slots=8, n_batch=512)
    scheduler.running.append(sequence(1, A, 10, 9))
    scheduler.plan()
    for _ in range(50):
        scheduler.cost.observe(1, 0, 0.01)
        scheduler.cost.observe(0, 100, 0.1)
    return scheduler


def test_step_carries_one_set(scheduler: Scheduler) -> None:
    scheduler.running += [sequence(2, B, 20, 19), sequence(3, A, 30, 29), sequence(4, B, 40, 0)]
    first = scheduler.plan()
    assert (first.adapters, [s.request_id for s in first.sequences]) == (B, [2, 4])
    scheduler.running.remove(scheduler.running[1])
    scheduler.running.pop()
    last = scheduler.plan()
    assert (last.adapters, [s.request_id for s in last.sequences]) == (A, [1, 3])


def test_chunk_of_a_prompt_is_short_enough_for_streams_of_other_sets(scheduler: Scheduler) -> None:
    scheduler.running.append(sequence(2, B, 500))
    plan = scheduler.plan()
    assert plan.adapters == B and plan.streams == []
    assert 0 < plan.n_chunk == scheduler.cost.chunk(1) < scheduler.cost.chunk(0)


def test_same_streams_have_the_same_plan_until_one_stops_or_has_more_to_compute(scheduler: Scheduler) -> None:
    scheduler.running.append(sequence(2, A, 20, 19))
    steady = scheduler.plan()
    assert scheduler.plan() is steady
    scheduler.running[1].tokens.append(7)
    assert [n for _, n in scheduler.plan().chunks] == [2]
    scheduler.running.pop()
    assert [s.request_id for s in scheduler.plan().streams] == [1]
    scheduler.running.append(sequence(3, B, 30, 29))
    assert scheduler.plan().adapters == B


def test_sequence_computed_aside_has_no_turn(scheduler: Scheduler) -> None:
    scheduler.aside = sequence(2, B, 500)
    scheduler.running.append(scheduler.aside)
    assert [scheduler.plan().adapters for _ in range(3)] == [A, A, A]


def test_prompt_waits_for_a_prefix_of_its_own_set_only(scheduler: Scheduler) -> None:
    scheduler.running.append(sequence(2, B, 500))
    assert scheduler.waits_for_prefix(sequence(3, B, 500), 0)
    assert not scheduler.waits_for_prefix(sequence(4, A, 500), 0)


def test_costs_are_learned_by_the_number_of_adapters(scheduler: Scheduler) -> None:
    assert scheduler.cost.decode_s(1) > 0
    scheduler.running[:] = [sequence(5, (), 10, 9)]
    scheduler.plan()
    assert scheduler.cost.decode_s(1) == 0
    scheduler.running[:] = [sequence(6, ((0, 0.5),), 10, 9)]
    scheduler.plan()
    assert scheduler.cost.decode_s(1) > 0


def test_prompts_that_nobody_waits_for_may_be_joined_for_a_share_of_their_time() -> None:
    scheduler = Scheduler(n_slots=3, n_batch=512)
    scheduler.cost.observe(0, 100, 0.1)
    scheduler.running += [sequence(1, (), 300), sequence(2, (), 100)]
    assert scheduler.young_s(scheduler.plan()) == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize(
    ("running", "why"),
    [
        ([sequence(1, (), 10, 9), sequence(2, (), 300)], "a stream waits"),
        ([sequence(1, (), 300), sequence(2, (), 300)], "the step is full"),
        ([sequence(n, (), 20) for n in (1, 2, 3)], "no slot is left"),
    ],
)
def test_prompts_are_not_begun_anew(running: list[Sequence], why: str) -> None:
    scheduler = Scheduler(n_slots=3, n_batch=512)
    scheduler.cost.observe(0, 100, 0.1)
    scheduler.running += running
    assert scheduler.young_s(scheduler.plan()) == 0.0, why
