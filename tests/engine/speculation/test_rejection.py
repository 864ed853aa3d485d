"""The ratio rule: exactly, by adding up every way to each outcome, and by drawing; broken rules are found out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from localllm.engine.speculation import rejection
from localllm.engine.speculation.rejection import Distribution
from tests.engine.speculation.chi_square import p_value

Vector = NDArray[np.float64]
Rule = Callable[[Vector, Vector, int, np.random.Generator], int]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Vector, Vector]:
    """Two distributions over the same few tokens, with zeros."""
    n = draw(st.integers(1, 7))
    weights = st.lists(st.integers(0, 9), min_size=n, max_size=n).filter(any)
    p, q = (np.array(draw(weights), dtype=np.float64) for _ in range(2))
    return p / p.sum(), q / q.sum()


def outcome(p: Vector, q: Vector) -> Vector:
    """Return the distribution of what comes out: each drawn token, accepted or not, with its probability."""
    out = np.zeros_like(p)
    for x in np.flatnonzero(q):
        accepted = rejection.acceptance(p, q, int(x))
        out[x] += q[x] * accepted
        if accepted < 1:
            out += q[x] * (1 - accepted) * rejection.residual(p, q)
    return out


@given(pairs())
def test_outcome_has_exactly_the_targets_distribution(pair: tuple[Vector, Vector]) -> None:
    p, q = pair
    assert outcome(p, q) == pytest.approx(p, abs=1e-12)


@given(pairs())
def test_share_accepted_is_what_the_distributions_have_in_common(pair: tuple[Vector, Vector]) -> None:
    p, q = pair
    accepted = sum(q[x] * rejection.acceptance(p, q, x) for x in range(len(q)) if q[x])
    assert accepted == pytest.approx(np.minimum(p, q).sum(), abs=1e-12)


@given(pairs())
def test_rejected_token_is_never_what_comes_instead(pair: tuple[Vector, Vector]) -> None:
    p, q = pair
    for x in np.flatnonzero(q):
        if rejection.acceptance(p, q, int(x)) < 1:
            assert rejection.residual(p, q)[x] == 0


def test_equal_distributions_leave_the_target_itself() -> None:
    p = np.array([0.25, 0.75])
    assert np.array_equal(rejection.residual(p, p), p)


def test_what_has_no_probability_is_never_drawn() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.0, 0.0, 0.5, 0.0, 0.5, 0.0])
    assert {rejection.draw(p, rng) for _ in range(500)} == {2, 4}


@given(pairs(), st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_tokens_need_no_order_and_need_not_be_the_same(pair: tuple[Vector, Vector], shuffler, seed: int) -> None:  # type: ignore[no-untyped-def]
    """What is chosen from two lists of candidates is what is chosen from the two vectors."""
    p, q = pair
    ids = np.arange(10, 10 + 3 * len(p), 3, dtype=np.int32)

    def listed(vector: Vector) -> Distribution:
        order = list(np.flatnonzero(vector))
        shuffler.shuffle(order)
        return Distribution(ids[order], vector[order])

    x = int(np.flatnonzero(q)[0])
    token = rejection.choose_token(listed(p), listed(q), int(ids[x]), np.random.default_rng(seed))
    either = np.flatnonzero(p + q)
    expected = rejection.choose(p[either], q[either], int(np.searchsorted(either, x)), np.random.default_rng(seed))
    assert token == ids[either[expected]]


def always_accept(p: Vector, q: Vector, x: int, rng: np.random.Generator) -> int:
    return x


def no_residual(p: Vector, q: Vector, x: int, rng: np.random.Generator) -> int:
    """Draw from the target itself after a rejection."""
    return x if rng.random() < rejection.acceptance(p, q, x) else rejection.draw(p, rng)


N_TOKENS, N_DRAWS = 8, 100_000


def chain_of(rng: np.random.Generator, sharpness: float) -> Vector:
    """A language of `N_TOKENS` tokens, each with its distribution of the next: [n, n]."""
    rows = np.exp(sharpness * rng.standard_normal((N_TOKENS, N_TOKENS)))
    return rows / rows.sum(axis=1, keepdims=True)


def generate(target: Vector, draft: Vector, rule: Rule, seed: int, n_ahead: int = 4) -> NDArray[np.int64]:
    """Generate by drafts of `n_ahead` tokens; return how often each token followed each: [n, n]."""
    rng = np.random.default_rng(seed)
    counts, last, n = np.zeros((N_TOKENS, N_TOKENS), dtype=np.int64), 0, 0
    while n < N_DRAWS:
        at = last
        drafted = []
        for _ in range(n_ahead):
            at = rejection.draw(draft[at], rng)
            drafted.append(at)
        for x in [*drafted, None]:
            token = rejection.draw(target[last], rng) if x is None else rule(target[last], draft[last], x, rng)
            counts[last, token] += 1
            n, last = n + 1, token
            if token != x:
                break
    return counts


def context_p_values(counts: NDArray[np.int64], target: Vector) -> list[float]:
    """Return, for each token before, the p-value of what followed."""
    return [p_value(counts[before], target[before]) for before in range(N_TOKENS)]


@pytest.fixture(scope="module")
def language() -> Vector:
    return chain_of(np.random.default_rng(1), 1.0)


def drafts(language: Vector) -> dict[str, Vector]:
    rng = np.random.default_rng(2)
    near = language * np.exp(0.3 * rng.standard_normal(language.shape))
    return {
        "good": near / near.sum(axis=1, keepdims=True),
        "bad": chain_of(rng, 1.5),
        "fixed": np.eye(N_TOKENS)[np.full(N_TOKENS, 3)],
    }


@pytest.mark.parametrize("kind", ["good", "bad", "fixed"])
def test_100000_draws_have_the_targets_distribution_after_every_token(language: Vector, kind: str) -> None:
    counts = generate(language, drafts(language)[kind], rejection.choose, seed=3)
    assert counts.sum() >= N_DRAWS
    assert min(context_p_values(counts, language)) > 1e-3 / N_TOKENS


@pytest.mark.parametrize("kind", ["good", "bad"])
@pytest.mark.parametrize("rule", [always_accept, no_residual])
def test_broken_rules_are_found_out_by_the_same_test(language: Vector, kind: str, rule: Rule) -> None:
    counts = generate(language, drafts(language)[kind], rule, seed=3)
    assert min(context_p_values(counts, language)) < 1e-9
