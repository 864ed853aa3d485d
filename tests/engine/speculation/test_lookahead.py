"""The pool and the window beside brute force, and the gain simulated on machines whose batches cost this or that."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.jacobi import JacobiWindow
from localllm.engine.speculation.lookahead import Lookahead, LookaheadSize
from localllm.engine.speculation.lookahead_gain import SIZE_PRIORS, LookaheadGain
from localllm.engine.speculation.lookahead_planner import FORCED_SIZES, LookaheadPlanner
from localllm.engine.speculation.ngram_pool import NgramPool
from localllm.hardware.types import MAX_DRAFT_TOKENS, N_BRANCH_IDS
from tests.engine.speculation.test_controller import cpu, flat

TOKENS = st.integers(0, 3)


@given(st.lists(st.tuples(TOKENS, TOKENS, TOKENS), max_size=60), st.integers(1, 4))
def test_pool_has_the_last_continuations_of_each_token(ngrams: list[tuple[int, int, int]], capacity: int) -> None:
    pool = NgramPool(capacity)
    for first, *rest in ngrams:
        pool.add(first, rest)
    for token in range(4):
        latest_first = dict.fromkeys(tuple(rest) for first, *rest in reversed(ngrams) if first == token)
        assert pool.after(token) == list(latest_first)[:capacity]


def test_window_columns_are_ngrams_and_move_on_with_the_stream() -> None:
    guesses = iter(range(100, 200))
    window = JacobiWindow(3, 2, lambda: next(guesses))
    assert window.levels == [[100, 101, 102], [103, 104, 105]]
    newest = [1, 2, 3]
    assert list(window.ngrams(7, newest)) == [(7, (103, 1)), (101, (104, 2)), (102, (105, 3))]
    window.advance(newest)
    assert window.levels == [[103, 104, 105], [1, 2, 3]]
    window.skip(2)
    assert window.levels == [[105, 106, 107], [3, 108, 109]]
    window.skip(9)
    assert window.levels == [[110, 111, 112], [113, 114, 115]]


def follow(lookahead: Lookahead, tokens: Sequence[int]) -> None:
    lookahead.follow(tokens, Acceptance(SharedRates([0.5])))


def test_lookahead_knows_the_text_and_what_its_windows_said() -> None:
    size, text = LookaheadSize(3, 3, 4), [1, 2, 3, 1, 2, 4, 1]
    lookahead = Lookahead()
    follow(lookahead, text)
    step = lookahead.step(size, n_max=9)
    assert step.branches == ((2, 4), (2, 3))
    lookahead.learn([50, 51, 52])
    longer = [*text, 9, 1]
    follow(lookahead, longer)
    again = lookahead.step(size, n_max=9)
    oldest, newest = step.levels
    said = list(zip((1, *oldest[1:]), newest, [50, 51, 52], strict=True))
    ngrams = [*zip(text, text[1:], text[2:], strict=False), *said, (4, 1, 9), (1, 9, 1)]
    assert again.branches == tuple(dict.fromkeys((b, c) for a, b, c in reversed(ngrams) if a == 1))[:4]
    assert again.levels[1][:2] == (51, 52)
    assert again.levels[0][:2] == step.levels[1][1:]


def test_branches_are_no_longer_than_the_request_can_use_and_never_twice() -> None:
    lookahead = Lookahead()
    follow(lookahead, [1, 2, 3, 1, 2, 4, 1])
    assert lookahead.step(LookaheadSize(3, 3, 4), n_max=1).branches == ((2,),)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_text_taken_in_bit_by_bit_is_the_text_taken_in_at_once(text: list[int], data: st.DataObject) -> None:
    size = LookaheadSize(2, 3, 6)
    gradual, at_once = Lookahead(), Lookahead()
    for end in sorted(data.draw(st.sets(st.integers(1, len(text))))):
        follow(gradual, text[:end])
        gradual.step(size, 9)
    follow(gradual, text)
    follow(at_once, text)
    assert gradual.step(size, 9).branches == at_once.step(size, 9).branches


@pytest.mark.parametrize("size", [*SIZE_PRIORS, *FORCED_SIZES], ids=str)
def test_sizes_fit_what_every_context_has(size: LookaheadSize) -> None:
    assert size.n_ids <= N_BRANCH_IDS and size.n_rows <= MAX_DRAFT_TOKENS


RECORDED = {
    "code": [1, 2, 1, 3, 1, 1, 2, 3, 1, 2, 3, 2, 1, 1, 2, 1, 3, 2, 2, 1],
    "prose": [1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1],
    "nothing": [1],
}
"""Tokens that steps brought, in turn."""


def simulate(curve: Callable[[int], float], brought: Sequence[int], n: int = 3000) -> tuple[float, int]:
    """Return the speed of `n` steps over that without lookahead, and how many looked ahead.

    A prompt's token costs twice what a token more in a batch does, as on a GPU, or half a step, as on a CPU.
    """
    controller, gain, rng = Controller(), LookaheadGain(), random.Random(1)
    planner = LookaheadPlanner(controller, N_BRANCH_IDS)
    cost = controller.cost(0, 1)
    cost.set_prior(min(2 * (curve(48) - 1) / 47, 0.5))
    n_tokens, spent, n_wide = 0, 0.0, 0
    for i in range(n):
        size = planner.choose_size(gain, cost, n_streams=1, max_ratio=float("inf"))
        if size is None:
            controller.credit_step()
            n_tokens, spent = n_tokens + 1, spent + 1.0
            continue
        new, ratio = brought[i % len(brought)], curve(1 + size.n_tokens) * rng.gauss(1.0, 0.08)
        n_tokens, spent, n_wide = n_tokens + new, spent + ratio, n_wide + 1
        planner.observe(gain, size, new)
        controller.observe(cost, n_streams=1, n_drafted=size.n_tokens, n_accepted=new - 1, ratio=ratio)
    return n_tokens / spent, n_wide


def test_where_width_is_cheap_it_pays_on_what_the_model_can_guess() -> None:
    speed, n_wide = simulate(flat, RECORDED["code"])
    assert speed > 1.35 and n_wide > 2000


@pytest.mark.parametrize("text", RECORDED)
def test_on_a_cpu_it_is_never_tried(text: str) -> None:
    assert simulate(cpu, RECORDED[text]) == (1.0, 0)


@pytest.mark.parametrize("text", ["prose", "nothing"])
@pytest.mark.parametrize("slope", [0.01, 0.02, 0.05])
def test_where_it_does_not_pay_it_costs_what_the_credit_allows(text: str, slope: float) -> None:
    speed, _ = simulate(lambda width: 1.0 + slope * (width - 1), RECORDED[text])
    assert speed >= 0.985


def test_a_step_with_others_is_not_longer_than_they_may_wait() -> None:
    planner = LookaheadPlanner(Controller(), N_BRANCH_IDS)
    cost = Controller().cost(0, 2)
    cost.set_prior(0.02)
    assert planner.choose_size(LookaheadGain(), cost, n_streams=2, max_ratio=1.1) is None
    assert planner.choose_size(LookaheadGain(), cost, n_streams=2, max_ratio=9.9) is not None
