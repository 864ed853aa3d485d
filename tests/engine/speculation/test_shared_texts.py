"""The pool against a brute-force search, and the drafter that looks into it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.ngram import GRADE_PRIORS, NgramDrafter
from localllm.engine.speculation.shared_texts import MATCH_ORDER, SharedTexts
from localllm.hardware.types import MAX_DRAFT_TOKENS

texts = st.lists(st.lists(st.integers(0, 1), max_size=40), max_size=6)


def brute_force(kept: list[list[int]], tokens: list[int]) -> tuple[list[int], int] | None:
    """Return the newest text with the n-gram that ends the tokens, and where its last occurrence there ends."""
    gram = tokens[-MATCH_ORDER:]
    for text in reversed(kept):
        for end in range(len(text) - 1, MATCH_ORDER - 1, -1):
            if text[end - MATCH_ORDER : end] == gram:
                return text, end
    return None


@given(texts, st.lists(st.integers(0, 1), min_size=MATCH_ORDER, max_size=12), st.integers(20, 100))
@settings(max_examples=300, deadline=None)
def test_lookup_equals_a_search_of_what_is_kept(finished: list[list[int]], tokens: list[int], max_tokens: int) -> None:
    pool, kept = SharedTexts(max_tokens), list[list[int]]()
    for text in finished:
        pool.add(text)
        if len(text[-max_tokens:]) > MATCH_ORDER:
            kept.append(text[-max_tokens:])
        while sum(map(len, kept)) > max_tokens:
            kept.pop(0)
        assert pool.n_tokens == sum(map(len, kept))
    assert pool.lookup(tokens) == brute_force(kept, tokens)


def test_what_another_request_said_is_proposed_to_its_end_and_no_further() -> None:
    pool, rates = SharedTexts(), Acceptance(SharedRates(GRADE_PRIORS))
    pool.add(range(100, 130))
    drafter = NgramDrafter(pool)
    tokens = [1, 2, 3, *range(100, 110)]
    assert drafter.follow(tokens, rates)
    assert drafter.match == (10, 10)
    assert drafter.propose(5) == [110, 111, 112, 113, 114]
    assert drafter.propose(MAX_DRAFT_TOKENS) == list(range(110, 130))
    assert len(drafter.grades()) == 20
    tokens += range(110, 129)
    assert drafter.follow(tokens, rates)
    assert (drafter.match, drafter.propose(9)) == ((29, 29), [129])
    assert drafter.follow([*tokens, 129], rates)
    assert drafter.match is None and drafter.grades() == ()


def test_own_text_goes_before_that_of_others() -> None:
    pool, rates = SharedTexts(), Acceptance(SharedRates(GRADE_PRIORS))
    pool.add([1, 2, 3, 4, 5, 6, 7])
    drafter = NgramDrafter(pool)
    assert drafter.follow([1, 2, 3, 4, 5, 6, 8, 1, 2, 3, 4, 5, 6], rates)
    assert drafter.propose(1) == [8]


def test_a_departure_from_anothers_text_ends_the_match() -> None:
    pool, rates = SharedTexts(), Acceptance(SharedRates(GRADE_PRIORS))
    pool.add(range(100, 130))
    drafter = NgramDrafter(pool)
    assert drafter.follow(tokens := list(range(100, 112)), rates)
    assert drafter.match is not None
    assert drafter.follow([*tokens, 50], rates)
    assert drafter.match is None and not rates.was_right
