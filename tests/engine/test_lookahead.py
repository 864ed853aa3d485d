"""Lookahead changes the speed and nothing else: tokens, logprobs, reasons and books are those without."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine.speculation.lookahead import LookaheadSize, LookaheadStep
from localllm.hardware.types import N_BRANCH_IDS, N_SEQ_LIMIT, n_branch_ids, n_output_rows, n_sequence_ids
from localllm.llama import Batch, Context, ContextParams, LoraAdapter, Model, SamplerChain
from localllm.llama.context import DECODE_NO_ROOM
from tests.engine.driving import GREEDY, EngineFactory, Outcome, generate, prompt_of, submit, wait_until
from tests.engine.near_ties import greedy_difference
from tests.engine.test_engine import STEADY_KV
from tests.engine.test_speculation import (
    FEW,
    LOGIT_DRIFT,
    Cycle,
    SameToken,
    StopAfter,
    accepted,
    check_same,
    drafted,
    logprobs_of,
    loops,
    repeating,
)


def both(engine: Engine, prompt: list[int], **fields: object) -> tuple[Outcome, Outcome]:
    """Generate without and with lookahead. Matchers are given as functions that make one."""
    made = {k: fields.pop(k) for k in ("constraint", "stop") if k in fields}
    fields = {"max_tokens": 60, "ignore_eos": True, "cache_prompt": False, **fields}
    off, on = (
        generate(engine, prompt, spec=spec, **fields, **{k: make() for k, make in made.items()})  # type: ignore[operator]
        for spec in ("off", "lookahead")
    )
    report = on.finish.usage.speculation
    assert report is not None and report.kind == "lookahead"
    return off, on


@pytest.fixture
def steady(make_engine: EngineFactory) -> Engine:
    return make_engine(kv_type=STEADY_KV)


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        SamplingParams(temperature=0, repeat_penalty=1.05, dry_multiplier=0.1),
        loops(1),
        SamplingParams(seed=3, temperature=0.7, mirostat=2, logit_bias=FEW),
    ],
    ids=str,
)
def test_tokens_are_the_same_as_without(steady: Engine, sampling: SamplingParams) -> None:
    n_accepted = 0
    for seed in range(4):
        off, on = both(steady, repeating(seed), sampling=sampling)
        check_same(off, on)
        n_accepted += accepted(on)
    assert n_accepted > 0
    assert steady.stats().n_cells_used == steady.stats().n_sequence_ids_used == 0


@pytest.mark.parametrize("n_prompt", [1, 2, 3])
def test_prompts_of_few_tokens_have_windows_too(steady: Engine, n_prompt: int) -> None:
    off, on = both(steady, prompt_of(80, n_prompt))
    check_same(off, on)


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q4_0"])
def test_kv_types_with_steady_sums_give_the_same_tokens(make_engine: EngineFactory, kv_type: str) -> None:
    off, on = both(make_engine(kv_type=kv_type), repeating(5), max_tokens=100)
    check_same(off, on)
    assert accepted(on) > 0


def test_with_an_f16_cache_the_first_difference_is_a_near_tie(engine: Engine) -> None:
    n_accepted = 0
    for seed in range(4):
        off, on = both(engine, repeating(seed), n_logprobs=20)
        difference = greedy_difference(off.token_events, on.token_events)
        assert difference is None or difference.distance <= 2 * LOGIT_DRIFT
        n_accepted += accepted(on)
    assert n_accepted > 0


def test_many_at_once_have_what_branches_there_are(steady: Engine) -> None:
    """More streams than the reserve has ids for, among them some with drafts and some with nothing."""
    sampling = [GREEDY, loops(1), GREEDY, loops(2), SamplingParams(seed=5), GREEDY, loops(3), GREEDY]
    asked = [(repeating(20 + i, 10 + i), s) for i, s in enumerate(sampling)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(steady, p, sampling=s, spec="off", cache_prompt=False, **fields).tokens for p, s in asked]
    specs = ["lookahead", "lookahead", "lookahead", "lookahead", "lookahead", "ngram", "off", "auto"]
    outcomes = [
        submit(steady, p, sampling=s, spec=spec, **fields)[1] for (p, s), spec in zip(asked, specs, strict=True)
    ]
    assert [o.wait().tokens for o in outcomes] == alone
    assert min(accepted(o) for o in outcomes[:2]) > 0


def test_logprobs_are_those_of_each_token(steady: Engine) -> None:
    off, on = both(steady, repeating(6), n_logprobs=5)
    check_same(off, on)
    assert accepted(on) > 0
    for a, b in zip(off.token_events, on.token_events, strict=True):
        assert logprobs_of(a) == pytest.approx(logprobs_of(b), abs=1e-3)


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=1)], ids=str)
def test_grammar_decides_every_token_and_hears_of_no_branch(steady: Engine, sampling: SamplingParams) -> None:
    off, on = both(steady, repeating(7), sampling=sampling, constraint=Cycle)
    check_same(off, on)
    assert accepted(on) > 0


def test_grammar_that_is_complete_within_a_branch_ends_the_request(steady: Engine) -> None:
    off, on = both(steady, repeating(8), constraint=lambda: Cycle(40))
    check_same(off, on)
    assert (len(on.tokens), on.finish.cause) == (40, "grammar")


@pytest.mark.parametrize("n", [30, 31, 32, 33])
@pytest.mark.parametrize("cause", ["stop_string", "max_tokens", "context_full"])
def test_an_end_within_a_branch_is_exact_and_leaves_no_branch_behind(
    make_engine: EngineFactory, n: int, cause: str
) -> None:
    engine = make_engine(n_ctx=256, n_slots=2)
    prompt = prompt_of(9, engine.n_ctx - n if cause == "context_full" else 60)
    fields: dict[str, object] = {"constraint": SameToken(), "ignore_eos": True, "spec": "lookahead"}
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


def test_prefix_of_an_answer_is_kept_as_it_was_computed(steady: Engine) -> None:
    for seed in range(4):
        prompt = repeating(30 + seed)
        first = generate(steady, prompt, max_tokens=40, ignore_eos=True, spec="lookahead")
        assert accepted(first) > 0
        turn = [*prompt, *first.tokens, *prompt_of(40 + seed, 10)]
        warm = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="lookahead")
        cold = generate(steady, turn, max_tokens=20, ignore_eos=True, spec="off", cache_prompt=False)
        assert warm.finish.usage.cached_tokens == len(prompt) + 39
        assert warm.tokens == cold.tokens


def test_adapters_each_have_their_own_tokens(make_engine: EngineFactory, adapters: list[LoraAdapter]) -> None:
    engine = make_engine(kv_type=STEADY_KV, adapters=[(a, 0.0) for a in adapters])
    sets: list[tuple[tuple[int, float], ...]] = [(), ((0, 1.0),), ((1, 0.5),), ((0, 1.0), (1, 1.0))]
    prompt, fields = repeating(50), {"max_tokens": 50, "ignore_eos": True, "cache_prompt": False}
    alone = [generate(engine, prompt, lora=lora, spec="off", **fields).tokens for lora in sets]
    outcomes = [submit(engine, prompt, lora=lora, spec="lookahead", **fields)[1] for lora in sets]
    assert [o.wait().tokens for o in outcomes] == alone
    assert min(map(drafted, outcomes)) > 0


def test_full_cache_preempts_as_without(make_engine: EngineFactory) -> None:
    roomy, tight = (make_engine(n_ctx=n, kv_type=STEADY_KV) for n in (2048, 512))
    prompts = [repeating(60 + i, 16) for i in range(8)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(roomy, p, spec="off", **fields).tokens for p in prompts]
    outcomes = [submit(tight, p, spec="lookahead", **fields)[1] for p in prompts]
    assert [o.wait().tokens for o in outcomes] == alone
    stats = tight.stats()
    assert stats.n_preemptions > 0 and stats.n_tokens_accepted > 0
    assert stats.n_cells_used_max <= stats.n_cells == 512


@pytest.mark.parametrize("policy", ["shift", "sinks"])
def test_a_context_that_slides_goes_on_with_the_same_tokens(make_engine: EngineFactory, policy: str) -> None:
    engine = make_engine(n_ctx=256, kv_type="f32")
    off, on = both(engine, repeating(51, 30), max_tokens=300, context_policy=policy)
    check_same(off, on)
    assert on.finish.usage.evicted_tokens == off.finish.usage.evicted_tokens > 0
    assert accepted(on) > 0
    assert engine.stats().n_cells_used == 0


def test_where_llama_cpp_has_no_room_the_step_goes_without(steady: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, refused = repeating(70), []
    decode = Context.decode

    def decode_narrow_only(context: Context, batch: Batch) -> int:
        if 1 < batch.n_tokens < 48:
            refused.append(batch.n_tokens)
            return DECODE_NO_ROOM
        return decode(context, batch)

    fields: dict[str, object] = {"max_tokens": 40, "ignore_eos": True, "cache_prompt": False}
    expected = generate(steady, prompt, spec="off", **fields).tokens
    monkeypatch.setattr(Context, "decode", decode_narrow_only)
    outcome = generate(steady, prompt, spec="lookahead", **fields)
    assert outcome.tokens == expected
    assert refused and accepted(outcome) == 0
    assert steady.stats().n_cells_used == steady.stats().n_sequence_ids_used == 0


def test_a_failed_decode_ends_the_request_and_frees_its_branches(
    steady: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Context.decode

    def fail_wide(context: Context, batch: Batch) -> int:
        return -3 if 1 < batch.n_tokens < 48 else decode(context, batch)

    monkeypatch.setattr(Context, "decode", fail_wide)
    outcome = generate(steady, repeating(71), max_tokens=40, ignore_eos=True, spec="lookahead")
    assert outcome.finish.reason == "error"
    assert steady.stats().n_cells_used == steady.stats().n_sequence_ids_used == 0


def test_model_that_cannot_roll_back_has_none(make_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "can_roll_back", property(lambda self: False))
    outcome = generate(make_engine(), repeating(72), max_tokens=30, ignore_eos=True, spec="lookahead")
    assert outcome.finish.usage.speculation is None


def test_random_requests_with_cancels_leak_nothing(make_engine: EngineFactory) -> None:
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
                spec=rng.choice(["lookahead", "lookahead", "ngram", "off"]),
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


@pytest.mark.parametrize("n_slots", [1, 4, 200, 230, 240, 256])
def test_branches_take_neither_ids_nor_rows_from_others(n_slots: int) -> None:
    assert n_sequence_ids(n_slots) + n_branch_ids(n_slots) <= N_SEQ_LIMIT
    assert n_branch_ids(n_slots) == min(N_BRANCH_IDS, N_SEQ_LIMIT - n_sequence_ids(n_slots))
    assert n_output_rows(n_slots) >= n_sequence_ids(n_slots) + n_branch_ids(n_slots)


def test_engine_with_as_many_slots_as_there_are_ids_works_without_branches(make_engine: EngineFactory) -> None:
    engine = make_engine(n_slots=N_SEQ_LIMIT)
    outcome = generate(engine, repeating(73), max_tokens=20, ignore_eos=True, spec="lookahead")
    assert len(outcome.tokens) == 20 and drafted(outcome) == 0


@pytest.mark.parametrize("size", [LookaheadSize(5, 3, 5), LookaheadSize(3, 4, 2), LookaheadSize(4, 5, 1)], ids=str)
def test_every_token_sees_what_the_paper_says_and_nothing_else(tiny: Model, size: LookaheadSize) -> None:
    """Source: Fu et al. 2024, figure 2(b). The oracle computes what each place sees alone, as one sequence."""
    text = prompt_of(90, 30)
    rng = random.Random(size.n_columns)

    def draw(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, 200) for _ in range(n))

    n_levels = size.n_gram - 1
    levels = tuple(draw(size.n_columns) for _ in range(n_levels))
    step = LookaheadStep(size, levels, tuple(draw(n_levels) for _ in range(size.n_branches)))
    assert (step.n_tokens, step.n_ids) == (size.n_tokens, size.n_ids)
    params = ContextParams(
        n_ctx=256, n_batch=256, n_seq_max=1 + step.n_ids, n_outputs_max=100, n_threads=1, kv_type_k="f32",
        kv_type_v="f32",
    )  # fmt: skip
    with Context(tiny, params) as context:
        batch = Batch(256)
        batch.add_run(text[:-1], 0, 0, last_wants_logits=True)
        assert context.decode(batch) == 0
        ids = list(range(1, step.n_ids + 1))
        for seq_id in ids:
            context.memory.copy(0, seq_id)
        batch.clear()
        index = step.fill(batch, text[-1], len(text) - 1, 0, ids)
        assert batch.n_tokens == 1 + size.n_tokens and batch.n_outputs == 1 + size.n_rows
        assert context.decode(batch) == 0
        seen = {index: text}
        for b, continuation in enumerate(step.branches):
            for n in range(1, n_levels + 1):
                seen[index + step.branch_offset(b, n)] = [*text, *continuation[:n]]
        for column, offset in enumerate(step.newest_offsets):
            own = [level[column] for level in levels[1:]]
            seen[index + offset] = [*text, *levels[0][1 : column + 1], *own]
        assert len(seen) == 1 + size.n_rows
        logits = {at: context.logits(at).copy() for at in seen}
    with Context(tiny, params) as context:
        for at, tokens in seen.items():
            context.memory.clear()
            batch.clear()
            last = batch.add_run(tokens, 0, 0, last_wants_logits=True)
            assert context.decode(batch) == 0
            assert logits[at] == pytest.approx(context.logits(last), abs=1e-3)
            assert logits[at].argmax() == context.logits(last).argmax()
