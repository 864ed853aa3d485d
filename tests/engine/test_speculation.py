"""Drafts change the speed and nothing else: tokens, logprobs, reasons and books are those without.

Looked up and looked ahead; what only one of the two does is in `test_ngram` and `test_lookahead`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.hardware.types import N_BRANCH_IDS, n_sequence_ids
from localllm.llama import Batch, Context, LoraAdapter, Model, SamplerChain
from localllm.llama.context import DECODE_NO_ROOM
from tests.engine.drafting import (
    FEW,
    LOGIT_DRIFT,
    Cycle,
    SameToken,
    StopAfter,
    accepted,
    both,
    check_same,
    drafted,
    logprobs_of,
    loops,
    repeating,
)
from tests.engine.driving import GREEDY, STEADY_KV, EngineFactory, Outcome, generate, prompt_of, submit, wait_until
from tests.engine.near_ties import greedy_difference


@pytest.fixture(params=["ngram", "lookahead"])
def spec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
def test_tokens_are_the_same_as_without_drafts(steady: Engine, sampling: SamplingParams, spec: str) -> None:
    n_accepted = 0
    for seed in range(4):
        off, on = both(steady, repeating(seed), spec, sampling=sampling)
        check_same(off, on)
        n_accepted += accepted(on)
    assert n_accepted > 0


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q4_0"])
def test_kv_types_with_steady_sums_give_the_same_tokens(make_engine: EngineFactory, kv_type: str, spec: str) -> None:
    off, on = both(make_engine(kv_type=kv_type), repeating(5), spec, max_tokens=150)
    check_same(off, on)
    assert accepted(on) > 0


def test_with_an_f16_cache_the_first_difference_is_a_near_tie(engine: Engine, spec: str) -> None:
    n_accepted = 0
    for seed in range(6):
        off, on = both(engine, repeating(seed), spec, n_logprobs=20)
        difference = greedy_difference(off.token_events, on.token_events)
        assert difference is None or difference.distance <= 2 * LOGIT_DRIFT
        n_accepted += accepted(on)
    assert n_accepted > 0


def test_many_at_once_each_with_its_own_way_give_what_they_give_alone(steady: Engine, spec: str) -> None:
    """More streams than lookahead's reserve has ids for, among them some with other drafts and some with nothing."""
    sampling = [GREEDY, loops(1), GREEDY, loops(2), SamplingParams(seed=5), GREEDY, loops(3), GREEDY]
    asked = [(repeating(20 + i, 10 + i), s) for i, s in enumerate(sampling)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(steady, p, sampling=s, spec="off", cache_prompt=False, **fields).tokens for p, s in asked]
    specs = [*[spec] * 5, "ngram", "off", "auto"]
    outcomes = [submit(steady, p, sampling=s, spec=own, **fields)[1] for (p, s), own in zip(asked, specs, strict=True)]
    assert [o.wait().tokens for o in outcomes] == alone
    assert sum(map(accepted, outcomes)) > 0


def test_logprobs_are_those_of_each_token_also_where_it_was_a_draft(steady: Engine, spec: str) -> None:
    off, on = both(steady, repeating(6), spec, n_logprobs=5)
    check_same(off, on)
    assert accepted(on) > 0
    for a, b in zip(off.token_events, on.token_events, strict=True):
        assert logprobs_of(a) == pytest.approx(logprobs_of(b), abs=1e-3)


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=1)], ids=str)
def test_grammar_decides_every_token_and_hears_of_no_draft(steady: Engine, sampling: SamplingParams, spec: str) -> None:
    off, on = both(steady, repeating(7), spec, sampling=sampling, constraint=Cycle)
    check_same(off, on)
    assert accepted(on) > 0


def test_grammar_that_is_complete_within_a_draft_ends_the_request(steady: Engine, spec: str) -> None:
    off, on = both(steady, repeating(8), spec, constraint=lambda: Cycle(40))
    check_same(off, on)
    assert (len(on.tokens), on.finish.cause) == (40, "grammar")
    assert accepted(on) > 0


@pytest.mark.parametrize("n", [30, 31, 37, 44, 53])
@pytest.mark.parametrize("cause", ["stop_string", "max_tokens", "context_full"])
def test_an_end_within_a_draft_is_exact_and_leaves_no_draft_behind(
    make_engine: EngineFactory, n: int, cause: str, spec: str
) -> None:
    engine = make_engine(n_ctx=256, n_slots=2)
    prompt = prompt_of(9, engine.n_ctx - n if cause == "context_full" else 60)
    fields: dict[str, object] = {"constraint": SameToken(), "ignore_eos": True, "spec": spec}
    if cause == "stop_string":
        fields["stop"] = StopAfter(n)
    elif cause == "max_tokens":
        fields["max_tokens"] = n
    outcome = generate(engine, prompt, **fields)
    assert outcome.tokens == [50] * n
    assert outcome.finish.cause == cause
    assert accepted(outcome) > 5
    stats = engine.stats()
    assert stats.n_cells_used == stats.n_cells_idle == len(prompt) + n - 1
    assert stats.n_sequence_ids_used == 1
    again = generate(engine, [*prompt, *[50] * (n - 3)][:-1], max_tokens=1, spec="off")
    assert again.finish.usage.cached_tokens == len(prompt) + n - 5


def test_prefix_of_a_drafted_answer_is_kept_as_it_was_computed(steady: Engine, spec: str) -> None:
    """The next turn goes on from the kept cells: they must be those of the accepted tokens, and only those."""
    for seed in range(5):
        prompt = repeating(30 + seed)
        first = generate(steady, prompt, max_tokens=40, ignore_eos=True, spec=spec)
        turn = [*prompt, *first.tokens, *prompt_of(40 + seed, 10)]
        warm = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="off")
        cold = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="off", cache_prompt=False)
        assert warm.finish.usage.cached_tokens == len(prompt) + 39
        assert warm.tokens == cold.tokens


def test_adapters_each_have_their_own_tokens(
    make_engine: EngineFactory, adapters: list[LoraAdapter], spec: str
) -> None:
    engine = make_engine(kv_type=STEADY_KV, adapters=[(a, 0.0) for a in adapters])
    sets: list[tuple[tuple[int, float], ...]] = [(), ((0, 1.0),), ((1, 0.5),), ((0, 1.0), (1, 1.0))]
    prompt, fields = repeating(50), {"max_tokens": 50, "ignore_eos": True, "cache_prompt": False}
    alone = [generate(engine, prompt, lora=lora, spec="off", **fields).tokens for lora in sets]
    outcomes = [submit(engine, prompt, lora=lora, spec=spec, **fields)[1] for lora in sets]
    assert [o.wait().tokens for o in outcomes] == alone
    assert min(map(drafted, outcomes)) > 0
    assert len({tuple(tokens) for tokens in alone}) > 1


def test_full_cache_preempts_with_drafts_as_without(make_engine: EngineFactory, spec: str) -> None:
    roomy, tight = (make_engine(n_ctx=n, kv_type=STEADY_KV) for n in (2048, 512))
    prompts = [repeating(60 + i, 16) for i in range(8)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(roomy, p, spec="off", **fields).tokens for p in prompts]
    outcomes = [submit(tight, p, spec=spec, **fields)[1] for p in prompts]
    assert [o.wait().tokens for o in outcomes] == alone
    stats = tight.stats()
    assert stats.n_preemptions > 0 and stats.n_tokens_accepted > 0
    assert stats.n_cells_used_max <= stats.n_cells == 512


def test_where_llama_cpp_has_no_room_for_a_draft_the_step_goes_without(
    steady: Engine, monkeypatch: pytest.MonkeyPatch, spec: str
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
    outcome = generate(steady, prompt, spec=spec, **fields)
    assert outcome.tokens == expected
    assert refused and accepted(outcome) == 0
    assert steady.stats().n_cells_used == steady.stats().n_sequence_ids_used == 0


def test_model_that_cannot_roll_back_has_no_drafts(
    make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    monkeypatch.setattr(Model, "can_roll_back", property(lambda self: False))
    outcome = generate(make_engine(), repeating(72), max_tokens=30, ignore_eos=True, spec=spec)
    assert outcome.finish.usage.speculation is None


def test_random_requests_with_cancels_leak_nothing(make_engine: EngineFactory, spec: str) -> None:
    engine = make_engine(n_ctx=512, max_host_cache_bytes=1 << 20)
    rng = random.Random(0)
    samplers_before = SamplerChain.n_alive
    done: list[tuple[int, Outcome]] = []
    for i in range(200):
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
                spec=rng.choice([spec, spec, "ngram", "auto", "off"]),
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
    assert all(engine._context.memory.last_position(seq_id) == -1 for seq_id in range(n_sequence_ids(8) + N_BRANCH_IDS))
