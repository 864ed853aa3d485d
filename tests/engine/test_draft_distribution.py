"""What is drawn with a draft model has the model's distribution, whatever came before; broken rules do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine.speculation import rejection
from localllm.llama import Batch, Context, ContextParams, Model, SamplerChain
from tests.engine.driving import STEADY_KV, EngineFactory, prompt_of, submit
from tests.engine.speculation.chi_square import p_value
from tests.engine.speculation.test_rejection import always_accept, no_residual

N_REQUESTS = 3000
N_TOKENS = 5
N_TESTED = 12
"""Texts after which the distribution of the next token is tested."""
SAMPLING = SamplingParams(
    temperature=1.5, top_k=4, top_p=1.0, min_p=0.0, logit_bias={50: 3.0, 60: 2.0}, presence_penalty=0.5
)
PROMPT = prompt_of(1, 12)


def drawn(engine: Engine, n: int = N_REQUESTS) -> list[tuple[int, ...]]:
    """Return what so many requests give, and check that drafts took part."""
    fields: dict[str, object] = {"max_tokens": N_TOKENS, "ignore_eos": True, "spec": "draft", "sampling": SAMPLING}
    texts: list[tuple[int, ...]] = []
    # In waves: steps that carry a prompt have no drafts.
    while len(texts) < n:
        wave = [submit(engine, PROMPT, **fields)[1] for _ in range(engine.n_slots)]
        texts += [tuple(outcome.wait().tokens) for outcome in wave]
    stats = engine.stats()
    assert 0 < stats.n_tokens_accepted <= stats.n_tokens_drafted and stats.n_tokens_drafted > n / 2
    return texts


class Target:
    """The model's own distribution after any text, by a bare decode."""

    def __init__(self, model: Model) -> None:
        self._model = model
        params = ContextParams(n_ctx=256, n_threads=1, kv_type_k=STEADY_KV, kv_type_v=STEADY_KV)
        self._context = Context(model, params)
        self._batch = Batch(64)

    def after(self, text: tuple[int, ...]) -> dict[int, float]:
        self._context.memory.clear()
        self._batch.clear()
        index = self._batch.add_run([*PROMPT, *text], 0, 0, last_wants_logits=True)
        assert self._context.decode(self._batch) == 0
        bias = {**SAMPLING.logit_bias, **dict.fromkeys(self._model.vocab.eog_tokens, -np.inf)}
        with SamplerChain() as chain:
            chain.add_logit_bias(self._model.vocab.n_tokens, bias)
            chain.add_penalties(self._model.vocab.n_tokens, 64, 1.0, 0.0, SAMPLING.presence_penalty)
            chain.add_top_k(SAMPLING.top_k)
            chain.add_temperature(SAMPLING.temperature)
            for token in [*PROMPT, *text]:
                chain.accept(token)
            tokens, p = chain.distribution(self._context.logits(index))
        return dict(zip(tokens.tolist(), p.tolist(), strict=True))

    def close(self) -> None:
        self._context.close()


def least_p_value(texts: list[tuple[int, ...]], target: Target) -> float:
    """Return the least p-value of what followed each of the texts that came most often, times the number of tests."""
    before = Counter(text[:n] for text in texts for n in range(N_TOKENS))
    p_values = []
    for start, n in before.most_common(N_TESTED):
        assert n >= 100
        p = target.after(start)
        followed = Counter(text[len(start)] for text in texts if text[: len(start)] == start)
        if not followed.keys() <= p.keys():
            return 0.0
        p_values.append(p_value([followed[token] for token in p], list(p.values())))
    return min(p_values) * len(p_values)


@pytest.fixture
def target(tiny: Model):  # type: ignore[no-untyped-def]
    made = Target(tiny)
    yield made
    made.close()


@pytest.mark.parametrize("draft", ["tiny", "noisy", "other"])
def test_every_token_has_the_models_distribution_given_those_before(
    make_engine: EngineFactory, target: Target, draft: str, request: pytest.FixtureRequest
) -> None:
    engine = make_engine(n_slots=2, kv_type=STEADY_KV, draft_model=request.getfixturevalue(draft))
    assert least_p_value(drawn(engine), target) > 1e-5


@pytest.mark.parametrize("rule", [always_accept, no_residual])
def test_broken_rules_are_found_out(
    make_engine: EngineFactory,
    target: Target,
    noisy: Model,
    monkeypatch: pytest.MonkeyPatch,
    rule: Callable[..., int],
) -> None:
    monkeypatch.setattr(rejection, "choose", rule)
    engine = make_engine(n_slots=2, kv_type=STEADY_KV, draft_model=noisy)
    assert least_p_value(drawn(engine), target) < 1e-9
