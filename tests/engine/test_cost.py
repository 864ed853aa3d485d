from __future__ import annotations

import pytest

from localllm.engine.cost import MAX_IDLE_STEP_S, MAX_STALL, MAX_STEP_S, SMOOTH_STEP_S, StepCost


def learned(decode_s: float, per_token_s: float, n_streams: int = 4) -> StepCost:
    cost = StepCost()
    for _ in range(50):
        cost.observe(n_streams, 0, decode_s)
        n = cost.chunk(n_streams)
        cost.observe(n_streams, n, decode_s + n * per_token_s)
    return cost


def test_step_with_streams_stays_under_the_stall_bound() -> None:
    cost = learned(decode_s=0.02, per_token_s=0.002)
    assert 0.02 + cost.chunk(4) * 0.002 <= MAX_STALL * 0.02


def test_step_with_fast_streams_is_not_shorter_than_anybody_can_see() -> None:
    cost = learned(decode_s=0.002, per_token_s=0.001)
    assert 0.002 + cost.chunk(4) * 0.001 == pytest.approx(SMOOTH_STEP_S, abs=0.002)


def test_step_with_slow_streams_stays_under_a_quarter_of_a_second() -> None:
    cost = learned(decode_s=0.15, per_token_s=0.004)
    assert 0.15 + cost.chunk(4) * 0.004 <= MAX_STEP_S + 0.004


def test_a_step_always_carries_some_prompt_even_where_decoding_alone_takes_too_long() -> None:
    assert learned(decode_s=0.4, per_token_s=0.05).chunk(4) > 0


def test_without_streams_the_chunk_fills_the_idle_step() -> None:
    cost = learned(decode_s=0.015, per_token_s=0.002)
    assert cost.chunk(0) * 0.002 == pytest.approx(MAX_IDLE_STEP_S, rel=0.1)
    assert cost.chunk(0) % 64 == 0


def test_prediction_follows_a_machine_that_becomes_slower() -> None:
    cost = learned(decode_s=0.01, per_token_s=0.001)
    before = cost.chunk(0)
    for _ in range(30):
        cost.observe(0, before, before * 0.004)
    assert cost.chunk(0) == pytest.approx(before / 4, rel=0.15)


def test_unknown_number_of_streams_takes_the_nearest_known_one() -> None:
    cost = StepCost()
    cost.observe(2, 0, 0.01)
    cost.observe(8, 0, 0.03)
    assert cost.decode_s(3) == 0.01
    assert cost.decode_s(7) == 0.03
