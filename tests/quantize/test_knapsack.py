from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.quantize.knapsack import Choice, choose, least_bytes

CHOICES = st.lists(st.builds(Choice, st.integers(1, 40), st.floats(0, 10, allow_nan=False)), min_size=1, max_size=4)


def total(options: list[list[Choice]], chosen: list[int]) -> tuple[int, float]:
    picked = [choices[index] for choices, index in zip(options, chosen, strict=True)]
    return sum(choice.n_bytes for choice in picked), sum(choice.loss for choice in picked)


@given(st.lists(CHOICES, min_size=1, max_size=5), st.integers(0, 120))
@settings(max_examples=200)
def test_the_least_loss_that_fits(options: list[list[Choice]], spare: int) -> None:
    budget = least_bytes(options) + spare
    best = min(
        loss
        for combination in itertools.product(*(range(len(choices)) for choices in options))
        for n_bytes, loss in [total(options, list(combination))]
        if n_bytes <= budget
    )
    n_bytes, loss = total(options, choose(options, budget))
    assert n_bytes <= budget
    assert loss == pytest.approx(best)


@given(st.lists(CHOICES, min_size=1, max_size=12), st.integers(0, 300), st.integers(1, 8))
def test_coarse_units_never_break_the_budget(options: list[list[Choice]], spare: int, n_units: int) -> None:
    budget = least_bytes(options) + spare
    n_bytes, loss = total(options, choose(options, budget, n_units=n_units))
    smallest = [min(range(len(c)), key=lambda i: (c[i].n_bytes, c[i].loss)) for c in options]
    assert n_bytes <= budget
    assert loss <= total(options, smallest)[1] + 1e-9


def test_most_of_a_budget_is_spent() -> None:
    options = [[Choice(n * bits, 2.0 ** (-bits)) for bits in (2, 3, 4, 5, 6, 8)] for n in range(50_000, 50_300)]
    budget = sum(choices[2].n_bytes for choices in options) + 12_345
    n_bytes, _ = total(options, choose(options, budget))
    assert budget * 0.995 < n_bytes <= budget


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the budget"):
        choose([[Choice(10, 0.0)]], 9)
