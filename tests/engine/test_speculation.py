"""Drafts change the speed and nothing else: tokens, logprobs, reasons and books are those without."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from localllm.engine import Engine, SamplingParams, TokenEvent
from localllm.llama import Batch, Context, LoraAdapter, Model, SamplerChain
from localllm.llama.context import DECODE_NO_ROOM
from tests.engine.driving import GREEDY, EngineFactory, Outcome, generate, prompt_of, submit, wait_until
from tests.engine.near_ties import greedy_difference
from tests.engine.test_engine import STEADY_KV

LOGIT_DRIFT = 0.5
"""Most that rounding changes a logit of the tiny model in wider batches, with an f16 cache."""


FEW = dict.fromkeys(range(40, 46), 8.0)
"""A bias towards a few tokens."""


def repeating(seed: int, n: int = 20) -> list[int]:
    """Return a prompt that repeats itself, so that there is always something to look up."""
    return prompt_of(seed, n) * 5


def loops(seed: int) -> SamplingParams:
    """Return seeded sampling that differs by seed, and repeats itself soon for want of tokens to choose from."""
    return SamplingParams(seed=seed, temperature=0.7, logit_bias=FEW)


def drafted(outcome: Outcome) -> int:
    report = outcome.finish.usage.speculation
    return 0 if report is None else report.drafted


def accepted(outcome: Outcome) -> int:
    report = outcome.finish.usage.speculation
    return 0 if report is None else report.accepted


def both(engine: Engine, prompt: list[int], **fields: object) -> tuple[Outcome, Outcome]:
    """Generate without drafts, and with as many as possible. Matchers are given as functions that make one."""
    made = {k: fields.pop(k) for k in ("constraint", "stop") if k in fields}
    fields = {"max_tokens": 80, "ignore_eos": True, "cache_prompt": False, **fields}
    off, on = (
        generate(engine, prompt, spec=spec, **fields, **{k: make() for k, make in made.items()})  # type: ignore[operator]
        for spec in ("off", "ngram")
    )
    assert off.finish.usage.speculation is None
    return off, on


def check_same(off: Outcome, on: Outcome) -> None:
    assert on.tokens == off.tokens
    assert [e.piece for e in on.token_events] == [e.piece for e in off.token_events]
    assert (on.finish.reason, on.finish.cause) == (off.finish.reason, off.finish.cause)
    assert on.finish.usage.completion_tokens == off.finish.usage.completion_tokens


@pytest.fixture
def steady(make_engine: EngineFactory) -> Engine:
    return make_engine(kv_type=STEADY_KV)


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        SamplingParams(temperature=0, repeat_penalty=1.05, dry_multiplier=0.1),
        loops(1),
        loops(2),
        SamplingParams(seed=3, temperature=0.7, mirostat=2, logit_bias=FEW),
        SamplingParams(seed=4, temperature=0.5, xtc_probability=0.1, logit_bias=FEW),
    ],
    ids=str,
)
def test_tokens_are_the_same_as_without_drafts(steady: Engine, sampling: SamplingParams) -> None:
    n_accepted = 0
    for seed in range(4):
        off, on = both(steady, repeating(seed), sampling=sampling)
        check_same(off, on)
        n_accepted += accepted(on)
    assert n_accepted > 0


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q4_0"])
def test_kv_types_with_steady_sums_give_the_same_tokens(make_engine: EngineFactory, kv_type: str) -> None:
    off, on = both(make_engine(kv_type=kv_type), repeating(5), max_tokens=150)
    check_same(off, on)
    assert accepted(on) > 0


def test_with_an_f16_cache_the_first_difference_is_a_near_tie(engine: Engine) -> None:
    n_accepted = 0
    for seed in range(6):
        off, on = both(engine, repeating(seed), n_logprobs=20)
        difference = greedy_difference(off.token_events, on.token_events)
        assert difference is None or difference.distance <= 2 * LOGIT_DRIFT
        n_accepted += accepted(on)
    assert n_accepted > 0


def test_many_at_once_each_with_its_own_way_give_what_they_give_alone(steady: Engine) -> None:
    sampling = [GREEDY, loops(1), GREEDY, loops(2), SamplingParams(seed=5), GREEDY, loops(3), GREEDY]
    asked = [(repeating(20 + i, 10 + i), s) for i, s in enumerate(sampling)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(steady, p, sampling=s, spec="off", cache_prompt=False, **fields).tokens for p, s in asked]
    specs = ["ngram", "off", "auto", "ngram"] * 2
    outcomes = [
        submit(steady, p, sampling=s, spec=spec, **fields)[1] for (p, s), spec in zip(asked, specs, strict=True)
    ]
    assert [o.wait().tokens for o in outcomes] == alone
    assert sum(map(accepted, outcomes)) > 0


def test_logprobs_are_those_of_each_token_also_where_it_was_a_draft(steady: Engine) -> None:
    off, on = both(steady, repeating(6), n_logprobs=5)
    check_same(off, on)
    assert accepted(on) > 0
    for a, b in zip(off.token_events, on.token_events, strict=True):
        assert logprobs_of(a) == pytest.approx(logprobs_of(b), abs=1e-3)


def logprobs_of(event: TokenEvent) -> list[float]:
    assert event.logprob is not None
    return [event.logprob, *(t.logprob for t in event.top_logprobs)]


class Cycle:
    """A constraint that allows a cycle of tokens, with one of two at each turn's end; it must not hear of others."""

    def __init__(self, n: int = 10**6) -> None:
        self.n_left = n
        self.place = 0

    @property
    def _allowed(self) -> list[int]:
        return [70 + self.place] if self.place < 5 else [80, 81]

    def mask_logits(self, logits: np.ndarray) -> None:
        keep = logits[self._allowed]
        logits[:] = -math.inf
        logits[self._allowed] = keep

    def allows(self, token: int) -> bool:
        return token in self._allowed

    def accept(self, token: int) -> None:
        assert self.allows(token)
        self.place = (self.place + 1) % 6
        self.n_left -= 1

    @property
    def is_complete(self) -> bool:
        return self.n_left == 0


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=1)], ids=str)
def test_grammar_decides_every_token_and_hears_of_no_draft(steady: Engine, sampling: SamplingParams) -> None:
    off, on = both(steady, repeating(7), sampling=sampling, constraint=Cycle)
    check_same(off, on)
    assert accepted(on) > 0


def test_grammar_that_is_complete_within_a_draft_ends_the_request(steady: Engine) -> None:
    off, on = both(steady, repeating(8), constraint=lambda: Cycle(40))
    check_same(off, on)
    assert (len(on.tokens), on.finish.cause) == (40, "grammar")
    assert accepted(on) > 0


class StopAfter:
    def __init__(self, n: int) -> None:
        self.n = n

    def feed(self, piece: bytes) -> bool:
        self.n -= 1
        return self.n == 0


class SameToken:
    """A constraint that allows one token for ever: every draft is right, to its end."""

    is_complete = False

    def mask_logits(self, logits: np.ndarray) -> None:
        keep = logits[50]
        logits[:] = -math.inf
        logits[50] = keep

    def allows(self, token: int) -> bool:
        return token == 50

    def accept(self, token: int) -> None:
        assert token == 50


@pytest.mark.parametrize("n", [30, 31, 37, 44, 53])
@pytest.mark.parametrize("cause", ["stop_string", "max_tokens", "context_full"])
def test_an_end_within_a_draft_is_exact_and_leaves_no_draft_behind(
    make_engine: EngineFactory, n: int, cause: str
) -> None:
    engine = make_engine(n_ctx=256, n_slots=2)
    prompt = prompt_of(9, engine.n_ctx - n if cause == "context_full" else 60)
    fields: dict[str, object] = {"constraint": SameToken(), "ignore_eos": True, "spec": "ngram"}
    if cause == "stop_string":
        fields["stop"] = StopAfter(n)
    elif cause == "max_tokens":
        fields["max_tokens"] = n
    outcome = generate(engine, prompt, **fields)
    assert outcome.tokens == [50] * n
    assert outcome.finish.cause == cause
    assert accepted(outcome) > 5
    assert engine.stats().n_cells_used == len(prompt) + n - 1
    again = generate(engine, [*prompt, *[50] * (n - 3)][:-1], max_tokens=1, spec="off")
    assert again.finish.usage.cached_tokens == len(prompt) + n - 5


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

    off, on = both(steady, prompt_of(10, 30), constraint=ThenEnd, ignore_eos=False)
    check_same(off, on)
    assert on.tokens == [50] * 40 and on.finish.cause == "eos"
    assert accepted(on) > 10


def test_prefix_of_a_drafted_answer_is_kept_as_it_was_computed(steady: Engine) -> None:
    """The next turn goes on from the kept cells: they must be those of the accepted tokens, and only those."""
    for seed in range(5):
        prompt = repeating(30 + seed)
        first = generate(steady, prompt, max_tokens=40, ignore_eos=True, spec="ngram")
        turn = [*prompt, *first.tokens, *prompt_of(40 + seed, 10)]
        warm = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="off")
        cold = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="off", cache_prompt=False)
        assert warm.finish.usage.cached_tokens == len(prompt) + 39
        assert warm.tokens == cold.tokens


def test_adapters_each_have_their_own_tokens(make_engine: EngineFactory, adapters: list[LoraAdapter]) -> None:
    engine = make_engine(kv_type=STEADY_KV, adapters=[(a, 0.0) for a in adapters])
    sets: list[tuple[tuple[int, float], ...]] = [(), ((0, 1.0),), ((1, 0.5),), ((0, 1.0), (1, 1.0))]
    prompt, fields = repeating(50), {"max_tokens": 50, "ignore_eos": True, "cache_prompt": False}
    alone = [generate(engine, prompt, lora=lora, spec="off", **fields).tokens for lora in sets]
    outcomes = [submit(engine, prompt, lora=lora, spec="ngram", **fields)[1] for lora in sets]
    assert [o.wait().tokens for o in outcomes] == alone
    assert min(map(drafted, outcomes)) > 0
    assert len({tuple(tokens) for tokens in alone}) > 1


def test_full_cache_preempts_with_drafts_as_without(make_engine: EngineFactory) -> None:
    roomy, tight = (make_engine(n_ctx=n, kv_type=STEADY_KV) for n in (2048, 512))
    prompts = [repeating(60 + i, 16) for i in range(8)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(roomy, p, spec="off", **fields).tokens for p in prompts]
    outcomes = [submit(tight, p, spec="ngram", **fields)[1] for p in prompts]
    assert [o.wait().tokens for o in outcomes] == alone
    stats = tight.stats()
    assert stats.n_preemptions > 0 and stats.n_tokens_accepted > 0
    assert stats.n_cells_used_max <= stats.n_cells == 512


def test_where_llama_cpp_has_no_room_for_a_draft_the_step_goes_without(
    steady: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt, refused = repeating(70), []
    decode = Context.decode

    def decode_narrow_only(context: Context, batch: Batch) -> int:
        if 1 < batch.n_tokens < 48:
            refused.append(batch.n_tokens)
            return DECODE_NO_ROOM
        return decode(context, batch)

    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True, "cache_prompt": False}
    expected = generate(steady, prompt, spec="off", **fields).tokens
    monkeypatch.setattr(Context, "decode", decode_narrow_only)
    outcome = generate(steady, prompt, spec="ngram", **fields)
    assert outcome.tokens == expected
    assert refused and accepted(outcome) == 0
    assert steady.stats().n_cells_used == 0


def test_requests_follow_the_engines_default_and_may_differ(make_engine: EngineFactory) -> None:
    engine = make_engine(spec="ngram")
    prompt, fields = repeating(71), {"max_tokens": 30, "ignore_eos": True, "cache_prompt": False}
    assert drafted(generate(engine, prompt, **fields)) > 0
    assert generate(engine, prompt, spec="off", **fields).finish.usage.speculation is None
    stats = engine.stats()
    assert 0 < stats.n_tokens_accepted <= stats.n_tokens_drafted
    assert stats.n_tokens_decoded == 58


def test_model_that_cannot_roll_back_has_no_drafts(make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "can_roll_back", property(lambda self: False))
    outcome = generate(make_engine(), repeating(72), max_tokens=30, ignore_eos=True, spec="ngram")
    assert outcome.finish.usage.speculation is None


def test_random_requests_with_cancels_leak_nothing(make_engine: EngineFactory) -> None:
    engine = make_engine(n_ctx=512, max_host_cache_bytes=1 << 20)
    rng = random.Random(0)
    samplers_before = SamplerChain.n_alive
    done: list[tuple[int, Outcome]] = []
    for i in range(300):
        prompt = repeating(1000 + i % 7, rng.randint(3, 8))
        constraint: Callable[[], object] = rng.choice([SameToken, Cycle, lambda: None])
        done.append(
            submit(
                engine,
                prompt,
                max_tokens=rng.randint(1, 60),
                sampling=rng.choice([GREEDY, loops(i)]),
                ignore_eos=True,
                cache_prompt=rng.random() < 0.8,
                constraint=constraint(),
                spec=rng.choice(["ngram", "ngram", "auto", "off"]),
            )
        )
        if rng.random() < 0.4:
            victim, outcome = rng.choice(done[-8:])
            if rng.random() < 0.5 and not outcome.events:
                outcome.events.append(outcome.queue.get(timeout=60))
            engine.cancel(victim)
    reasons = {outcome.wait().finish.reason for _, outcome in done}
    assert reasons == {"length", "cancelled"}
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    wait_until(lambda: engine.stats().n_running == 0)
    stats = engine.stats()
    assert stats.n_tokens_accepted > 100
    assert stats.n_cells_used == stats.n_cells_idle == stats.n_sequence_ids_used == stats.host_cache_bytes == 0
    assert stats.n_samplers == samplers_before
    assert stats.n_cells_used_max <= stats.n_cells == 512
    assert engine._context.memory.last_position(0) == -1


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
