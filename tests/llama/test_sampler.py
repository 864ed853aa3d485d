"""Sampler chains: each sampler, seeds, copies, leaks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from localllm.llama import Context, Model, SamplerChain
from tests.llama.conftest import MakeContext
from tests.llama.running import PROMPT, feed

LAST = len(PROMPT) - 1


@pytest.fixture(autouse=True)
def no_leak() -> Iterator[None]:
    before = SamplerChain.n_alive
    yield
    assert SamplerChain.n_alive == before


@pytest.fixture
def ready(make_context: MakeContext) -> Context:
    """A context whose last token has logits."""
    context = make_context()
    feed(context)
    return context


Add = Callable[[SamplerChain, Model, int], None]


def then_draw(add: Callable[[SamplerChain, Model], None]) -> Add:
    def build(chain: SamplerChain, model: Model, seed: int) -> None:
        add(chain, model)
        chain.add_dist(seed)

    return build


def dry(chain: SamplerChain, model: Model) -> None:
    chain.add_dry(model.vocab, multiplier=0.8, base=1.75, allowed_length=2, last_n=64, breakers=("\n", ":", "\ud800"))


SAMPLERS: dict[str, Add] = {
    "dist": lambda c, m, seed: c.add_dist(seed),
    "temperature": then_draw(lambda c, m: c.add_temperature(2.0)),
    "top_k": then_draw(lambda c, m: c.add_top_k(20)),
    "top_p": then_draw(lambda c, m: c.add_top_p(0.9)),
    "min_p": then_draw(lambda c, m: c.add_min_p(0.01)),
    "typical": then_draw(lambda c, m: c.add_typical(0.9)),
    "top_n_sigma": then_draw(lambda c, m: c.add_top_n_sigma(2.0)),
    "penalties": then_draw(lambda c, m: c.add_penalties(m.vocab.n_tokens, 64, 1.1, 0.1, 0.1)),
    "dry": then_draw(dry),
    "logit_bias": then_draw(lambda c, m: c.add_logit_bias(m.vocab.n_tokens, {1: 5.0, 2: -math.inf})),
    "grammar": then_draw(lambda c, m: c.add_grammar(m.vocab, "root ::= [a-z]+")),
    "xtc": lambda c, m, seed: (c.add_xtc(0.5, 0.05, seed), c.add_dist(seed))[0],
    "mirostat": lambda c, m, seed: c.add_mirostat(m.vocab.n_tokens, seed, 5.0, 0.1),
    "mirostat_v2": lambda c, m, seed: c.add_mirostat_v2(seed, 5.0, 0.1),
}


def draws(add: Add, context: Context, model: Model, seed: int, n: int = 24) -> list[int]:
    with SamplerChain() as chain:
        add(chain, model, seed)
        return [chain.sample(context, LAST) for _ in range(n)]


@pytest.mark.parametrize("add", SAMPLERS.values(), ids=SAMPLERS)
def test_seed_decides(add: Add, ready: Context, model: Model) -> None:
    first = draws(add, ready, model, 1)
    assert all(0 <= token < model.vocab.n_tokens for token in first)
    assert first == draws(add, ready, model, 1)
    assert any(draws(add, ready, model, seed) != first for seed in range(2, 6))


def test_greedy_takes_the_largest(ready: Context) -> None:
    with SamplerChain() as chain:
        chain.add_greedy()
        assert chain.sample(ready, LAST) == ready.logits(LAST).argmax()


def test_draws_follow_the_distribution(ready: Context, model: Model) -> None:
    logits = ready.logits(LAST).astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    n = 4000
    counts = Counter(draws(SAMPLERS["dist"], ready, model, 7, n))
    for token in np.argsort(-p)[:5]:
        expected, spread = n * p[token], math.sqrt(n * p[token] * (1 - p[token]))
        assert abs(counts[int(token)] - expected) < 4.5 * spread


def test_minus_infinity_forbids(ready: Context, model: Model) -> None:
    best = int(ready.logits(LAST).argmax())
    with SamplerChain() as chain:
        chain.add_logit_bias(model.vocab.n_tokens, {best: -math.inf})
        chain.add_greedy()
        assert chain.sample(ready, LAST) == np.argsort(-ready.logits(LAST))[1]


def test_penalties_see_accepted_tokens_and_reset_forgets_them(ready: Context, model: Model) -> None:
    best = int(ready.logits(LAST).argmax())
    with SamplerChain() as chain:
        chain.add_penalties(model.vocab.n_tokens, 8, 1.0, 0.0, 1000.0)
        chain.add_greedy()
        chain.accept(best)
        second = chain.sample(ready, LAST)
        assert second != best
        chain.reset()
        assert chain.sample(ready, LAST) == best


def test_dry_breaks_a_repetition(ready: Context, model: Model) -> None:
    best = int(ready.logits(LAST).argmax())
    with SamplerChain() as chain:
        chain.add_dry(model.vocab, multiplier=1000.0, base=1.75, allowed_length=2, last_n=64, breakers=())
        chain.add_greedy()
        for token in (3, 4, 5, best, 3, 4, 5):
            chain.accept(token)
        assert chain.sample(ready, LAST) != best


def test_xtc_takes_the_top_choices_away(ready: Context) -> None:
    best = int(ready.logits(LAST).argmax())
    with SamplerChain() as chain:
        chain.add_xtc(1.0, 0.001, 0)
        chain.add_greedy()
        assert chain.sample(ready, LAST) != best


def test_grammar_lets_only_its_text_through(ready: Context, model: Model) -> None:
    with SamplerChain() as chain:
        chain.add_grammar(model.vocab, 'root ::= "wor" [a-z]*')
        chain.add_dist(0)
        text = b"".join(model.vocab.piece(chain.sample(ready, LAST)) for _ in range(6))
    assert text.startswith(b"wor") and text.decode().isalpha()


@pytest.mark.parametrize("gbnf", ["root ::= (", "nothing ::= [a]", "", "root ::= missing", "\ud800"])
def test_bad_grammar_is_an_error(gbnf: str, model: Model) -> None:
    with SamplerChain() as chain, pytest.raises(ValueError, match="does not parse"):
        chain.add_grammar(model.vocab, gbnf)


def test_copy_goes_its_own_way_from_the_same_state(ready: Context, model: Model) -> None:
    with SamplerChain() as chain:
        chain.add_penalties(model.vocab.n_tokens, 64, 1.3, 0.0, 0.0)
        chain.add_dist(3)
        for _ in range(5):
            chain.sample(ready, LAST)
        with chain.clone() as copy:
            expected = [copy.sample(ready, LAST) for _ in range(10)]
        assert [chain.sample(ready, LAST) for _ in range(10)] == expected


def test_use_after_close_raises(ready: Context) -> None:
    chain = SamplerChain()
    chain.add_greedy()
    chain.close()
    chain.close()
    for use in (lambda: chain.sample(ready, LAST), lambda: chain.accept(1), chain.clone, chain.add_greedy, chain.reset):
        with pytest.raises(RuntimeError, match="closed"):
            use()


def test_distribution_is_what_the_chain_leaves_and_nothing_is_chosen(ready: Context, model: Model) -> None:
    logits = ready.logits(LAST).copy()
    biased = logits.astype(np.float64)
    biased[7] += 3.0
    biased[8] = -np.inf
    kept = np.argsort(-biased)[:20]
    expected = np.exp((biased[kept] - biased.max()) / 1.7)
    with SamplerChain() as chain:
        chain.add_logit_bias(model.vocab.n_tokens, {7: 3.0, 8: -math.inf})
        chain.add_top_k(20)
        chain.add_temperature(1.7)
        tokens, p = chain.distribution(ready.logits(LAST))
    assert dict(zip(tokens.tolist(), p.tolist(), strict=True)) == pytest.approx(
        dict(zip(kept.tolist(), (expected / expected.sum()).tolist(), strict=True)), rel=1e-5
    )
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.array_equal(ready.logits(LAST), logits)


def test_distribution_leaves_masked_tokens_out_and_knows_what_was_accepted(ready: Context, model: Model) -> None:
    logits = ready.logits(LAST)
    logits[:] = -np.inf
    logits[[40, 41]] = 1.0
    with SamplerChain() as chain:
        chain.add_penalties(model.vocab.n_tokens, 64, 1.0, 0.0, 2.0)
        tokens, p = chain.distribution(logits)
        assert dict(zip(tokens.tolist(), p.tolist(), strict=True)) == {40: 0.5, 41: 0.5}
        chain.accept(40)
        tokens, p = chain.distribution(logits)
    after = dict(zip(tokens.tolist(), p.tolist(), strict=True))
    assert after[40] / after[41] == pytest.approx(math.exp(-2.0))
