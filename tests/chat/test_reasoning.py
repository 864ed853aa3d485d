from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from localllm.chat.grammar import GrammarCompiler
from localllm.chat.reasoning import ReasoningBudget
from tests.chat.vocabularies import END, ByteVocab

VOCAB = ByteVocab()
ENDING = list(b"\n</think>\n")


def _budget(n_tokens: int, *, is_open: bool = True, grammar: str | None = None) -> ReasoningBudget:
    inner = None if grammar is None else GrammarCompiler(VOCAB).compile("lark", grammar)
    return ReasoningBudget(
        n_tokens,
        start="<think>",
        end="</think>",
        ending=ENDING,
        is_open=is_open,
        piece=VOCAB.piece,
        inner=inner,
    )


def _say(budget: ReasoningBudget, text: str | bytes) -> None:
    for byte in text if isinstance(text, bytes) else text.encode():
        assert budget.allows(byte)
        budget.accept(byte)


def _allowed(budget: ReasoningBudget) -> list[int]:
    logits = np.zeros(VOCAB.n_vocab, dtype=np.float32)
    budget.mask_logits(logits)
    return np.flatnonzero(np.isfinite(logits)).tolist()


def _forced(budget: ReasoningBudget) -> bytes:
    """Follow the budget as long as it leaves one choice."""
    said: list[int] = []
    while len(allowed := _allowed(budget)) == 1:
        assert not budget.allows(ord("#")) and not budget.is_complete
        budget.accept(allowed[0])
        said.append(allowed[0])
    return bytes(said)


@pytest.mark.parametrize("n_tokens", [0, 1, 5])
def test_reasoning_is_ended_after_its_budget(n_tokens: int) -> None:
    budget = _budget(n_tokens)
    _say(budget, "x" * n_tokens)
    assert _forced(budget) == bytes(ENDING)
    assert len(_allowed(budget)) == VOCAB.n_vocab


def test_reasoning_that_ends_by_itself_is_left_alone() -> None:
    budget = _budget(20)
    _say(budget, "Hm.</think>" + "y" * 50)
    assert len(_allowed(budget)) == VOCAB.n_vocab


def test_tokens_count_from_where_the_reasoning_begins() -> None:
    budget = _budget(2, is_open=False)
    _say(budget, "\n<think>ab")
    assert _forced(budget) == bytes(ENDING)


def test_text_that_does_not_begin_with_reasoning_is_not_counted() -> None:
    budget = _budget(2, is_open=False)
    _say(budget, "Yes, <think> is a tag.")
    assert len(_allowed(budget)) == VOCAB.n_vocab


def test_no_character_is_cut_in_half() -> None:
    budget = _budget(1)
    _say(budget, "é".encode()[:1])
    assert len(_allowed(budget)) == VOCAB.n_vocab
    _say(budget, "é".encode()[1:])
    assert _forced(budget) == bytes(ENDING)


@pytest.mark.parametrize("thought", [b"abcd", "aé".encode(), b"a</t"])
def test_grammar_goes_on_after_an_end_that_was_forced(thought: bytes) -> None:
    budget = _budget(3, grammar='start: thought /\\s*/ "yes"\nthought[lazy]: /(?s:.*)<\\/think>/')
    for byte in thought[:3]:
        budget.accept(byte)
    _finish_character(budget, thought[3:])
    assert _forced(budget).startswith(bytes(ENDING[:9]))
    _say(budget, "yes")
    assert _allowed(budget) == [END, END + 1] and budget.is_complete


def _finish_character(budget: ReasoningBudget, rest: Sequence[int]) -> None:
    for byte in rest:
        if budget.allows(byte):
            budget.accept(byte)
