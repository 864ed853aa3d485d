"""The lookup against a brute-force search."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.ngram import GRADE_PRIORS, ORDERS, NgramDrafter, NgramIndex
from localllm.hardware.types import MAX_DRAFT_TOKENS


def acceptance() -> Acceptance:
    return Acceptance(SharedRates(GRADE_PRIORS))


def brute_force(tokens: list[int]) -> int | None:
    """Search for the longest indexed n-gram that ends the tokens; return where its latest earlier occurrence ends."""
    for order in ORDERS:
        for end in range(len(tokens) - 1, order - 1, -1):
            if tokens[end - order : end] == tokens[len(tokens) - order :]:
                return end
    return None


few_tokens = st.lists(st.integers(0, 3), max_size=80)


@given(few_tokens)
@settings(max_examples=300, deadline=None)
def test_lookup_equals_a_search_at_every_length(tokens: list[int]) -> None:
    index = NgramIndex()
    for n, token in enumerate(tokens):
        index.append(token)
        assert index.lookup() == brute_force(tokens[: n + 1])


@given(few_tokens, few_tokens)
@settings(max_examples=300, deadline=None)
def test_match_is_true_and_there_wherever_the_text_repeats(prompt: list[int], output: list[int]) -> None:
    drafter, rates, tokens = NgramDrafter(), acceptance(), list(prompt)
    assert drafter.follow(tokens, rates)
    for token in output:
        tokens.append(token)
        assert drafter.follow(tokens, rates)
        if drafter.match is None:
            assert brute_force(tokens) is None
            continue
        source, length = drafter.match
        assert 0 < length <= source < len(tokens)
        assert tokens[source - length : source] == tokens[len(tokens) - length :]


@given(few_tokens, st.integers(1, MAX_DRAFT_TOKENS))
def test_draft_is_what_followed_and_then_its_own_period(tokens: list[int], n: int) -> None:
    drafter = NgramDrafter()
    drafter.follow(tokens, acceptance())
    if drafter.match is None:
        assert drafter.grades() == ()
        return
    source, _ = drafter.match
    whole = [*tokens]
    for i in range(n):
        whole.append(whole[source + i])
    assert drafter.propose(n) == whole[len(tokens) :]
    assert len(drafter.grades()) == MAX_DRAFT_TOKENS


def test_match_grows_while_it_proves_right_and_grades_rise() -> None:
    source = list(range(100))
    drafter, rates = NgramDrafter(), acceptance()
    tokens = [*source, 200, 10, 11]
    drafter.follow(tokens, rates)
    first = rates.survival(drafter.grades())
    tokens += range(12, 40)
    drafter.follow(tokens, rates)
    assert drafter.match == (40, 30)
    assert rates.survival(drafter.grades())[20] > first[20]


def test_copy_is_taken_up_again_after_a_token_was_changed() -> None:
    """The 2-gram after the change is new, so only the remembered place can say how the copy goes on."""
    source = list(range(100))
    drafter, rates = NgramDrafter(), acceptance()
    tokens = [*source, *range(10, 30), 500]
    drafter.follow(tokens[:100], rates)
    drafter.follow(tokens, rates)
    assert drafter.match is None
    tokens.append(31)
    drafter.follow(tokens, rates)
    assert drafter.propose(5) == [32, 33, 34, 35, 36]


def test_a_lost_copy_is_forgotten_after_a_while() -> None:
    drafter, rates = NgramDrafter(), acceptance()
    tokens = [*range(100), *range(10, 30), *range(500, 560), 31]
    drafter.follow(tokens[:100], rates)
    drafter.follow(tokens, rates)
    assert drafter.match is None


def test_a_long_prompt_is_taken_in_piece_by_piece() -> None:
    drafter, rates = NgramDrafter(), acceptance()
    rng = random.Random(0)
    tokens = [rng.randrange(1000) for _ in range(5000)]
    tokens += tokens[:20]
    calls = 1
    while not drafter.follow(tokens, rates):
        calls += 1
        assert drafter.grades() == ()
    assert calls > 1
    assert drafter.propose(3) == tokens[20:23]


def test_what_would_have_been_right_is_counted_without_a_draft() -> None:
    shared = SharedRates(GRADE_PRIORS)
    rates, drafter = Acceptance(shared), NgramDrafter()
    tokens = [1, 2, 3, 4] * 5
    drafter.follow(tokens[:8], rates)
    before = [rates.rate(grade) for grade in drafter.grades()[:4]]
    grades = drafter.grades()[:4]
    drafter.follow(tokens, rates)
    assert all(rates.rate(grade) > rate for grade, rate in zip(grades, before, strict=True))
    assert shared.rate(grades[0]) > GRADE_PRIORS[grades[0]]
