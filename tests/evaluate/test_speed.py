"""Speeds, whose figures no test can know: what is counted, in which order, and what the statistics say."""

from __future__ import annotations

import pytest

from localllm.errors import RequestError
from localllm.evaluate import Chunks, Subject, speed
from localllm.evaluate.speed import Rate, measure_speed
from localllm.llama import Model

TOKENS = list(range(40)) * 10


def test_a_rate_is_the_median_with_its_quartiles() -> None:
    assert Rate.of(8, [1.0, 4.0, 2.0]) == Rate(4.0, 3.0, 6.0)
    assert Rate.of(10, [2.0]) == Rate(5.0, 5.0, 5.0)


def test_every_model_is_timed_as_often(tiny: Model, another: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS_ENOUGH", 0.0)
    rounds: list[tuple[int, int]] = []
    subjects = [Subject(tiny, n_threads=1), Subject(another, n_threads=1)]
    found = measure_speed(subjects, TOKENS, lambda done, total: rounds.append((done, total)))
    assert [one.n_rounds for one in found] == [3, 3] and rounds == [(1, 9), (2, 9), (3, 9)]
    for one in found:
        assert (one.n_prompt, one.n_generated) == (256, 32)
        for rate in (one.prompt, one.generation):
            assert 0 < rate.low <= rate.median <= rate.high


def test_turns_change_direction_and_the_first_round_does_not_count(
    tiny: Model, another: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []

    def run(runner: speed._Runner, prompt: list[int], rest: list[int]) -> tuple[float, float]:
        turns.append(runner._name)
        return (100.0, 100.0) if len(turns) <= 2 else (1.0, 2.0)

    monkeypatch.setattr(speed._Runner, "run", run)
    monkeypatch.setattr(speed, "SECONDS_ENOUGH", 0.0)
    found = measure_speed([Subject(tiny), Subject(another)], TOKENS)
    a, b = tiny.path.name, another.path.name
    assert turns == [a, b, b, a, a, b, b, a]
    assert found[0].prompt == Rate(256.0, 256.0, 256.0) and found[1].generation == Rate(16.0, 16.0, 16.0)


def test_a_short_text_is_divided(tiny: Model, chunks: Chunks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SECONDS_ENOUGH", 0.0)
    (found,) = measure_speed([Subject(tiny, n_threads=1)], chunks.tokens[0])
    assert (found.n_prompt, found.n_generated) == (49, 16)


def test_one_token_is_too_few(tiny: Model) -> None:
    with pytest.raises(RequestError, match="too few"):
        measure_speed([Subject(tiny)], [1])
