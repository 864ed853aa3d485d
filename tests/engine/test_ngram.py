"""Drafts that are looked up: what only they do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from localllm.engine import Engine
from localllm.llama import Model
from tests.engine.drafting import SameToken, accepted, both, check_same, drafted, repeating
from tests.engine.driving import STEADY_KV, EngineFactory, generate, prompt_of


@pytest.fixture
def steady(make_engine: EngineFactory) -> Engine:
    return make_engine(kv_type=STEADY_KV)


def test_end_of_turn_within_a_draft_is_the_end(steady: Engine, tiny: Model) -> None:
    eos = tiny.vocab.eos
    assert eos is not None

    class ThenEnd(SameToken):
        n_left = 40

        def mask_logits(self, logits: np.ndarray) -> None:
            token = 50 if self.n_left else eos
            logits[:] = -math.inf
            logits[token] = 0.0

        def accept(self, token: int) -> None:
            self.n_left -= 1

    off, on = both(steady, prompt_of(10, 30), "ngram", constraint=ThenEnd, ignore_eos=False)
    check_same(off, on)
    assert on.tokens == [50] * 40 and on.finish.cause == "eos"
    assert accepted(on) > 10


def test_requests_follow_the_engines_default_and_may_differ(make_engine: EngineFactory) -> None:
    engine = make_engine(spec="ngram")
    prompt, fields = repeating(71), {"max_tokens": 30, "ignore_eos": True, "cache_prompt": False}
    assert drafted(generate(engine, prompt, **fields)) > 0
    assert generate(engine, prompt, spec="off", **fields).finish.usage.speculation is None
    stats = engine.stats()
    assert 0 < stats.n_tokens_accepted <= stats.n_tokens_drafted
    assert stats.n_tokens_decoded == 58


def test_shared_texts_serve_later_requests(make_engine: EngineFactory) -> None:
    """The second request's prompt begins what the first one said."""
    n_accepted = {}
    for shares_texts in (True, False):
        engine = make_engine(kv_type=STEADY_KV, shares_texts=shares_texts)
        fields: dict[str, object] = {"ignore_eos": True, "cache_prompt": False}
        first = generate(engine, prompt_of(90, 40), max_tokens=60, spec="ngram", **fields)
        prompt = [*prompt_of(90, 40), *first.tokens[:10]]
        off = generate(engine, prompt, max_tokens=12, spec="off", **fields)
        on = generate(engine, prompt, max_tokens=12, spec="ngram", **fields)
        check_same(off, on)
        assert on.tokens == first.tokens[10:22]
        n_accepted[shares_texts] = accepted(on)
    assert n_accepted[True] > n_accepted[False]
