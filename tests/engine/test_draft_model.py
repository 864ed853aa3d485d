"""A draft model changes the speed and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.draft_model import DraftModel
from localllm.engine.speculation.vocabularies import check_draft_model
from localllm.engine.speculation.width_cost import WidthCost
from localllm.errors import RequestError
from localllm.llama import Context, LoraAdapter, Model, SamplerChain
from tests.engine.drafting import Cycle, SameToken, StopAfter, accepted, check_same, drafted
from tests.engine.driving import GREEDY, STEADY_KV, EngineFactory, Outcome, generate, prompt_of, submit, wait_until
from tests.tiny_model import write_tiny_model

SAMPLINGS = [
    GREEDY,
    SamplingParams(temperature=0, repeat_penalty=1.05, dry_multiplier=0.1),
    SamplingParams(seed=1, temperature=0.5),
    SamplingParams(seed=2, temperature=0.7, mirostat=2),
    SamplingParams(seed=3, temperature=0.5, xtc_probability=0.1),
    SamplingParams(temperature=0, logit_bias={40: 6.0, 41: 5.0, 42: -5.0}),
]


def both(engine: Engine, prompt: list[int], **fields: object) -> tuple[Outcome, Outcome]:
    """Generate without drafts and with the draft model's. Matchers are given as functions that make one."""
    made = {k: fields.pop(k) for k in ("constraint", "stop") if k in fields}
    fields = {"max_tokens": 60, "ignore_eos": True, "cache_prompt": False, **fields}
    off, on = (
        generate(engine, prompt, spec=spec, **fields, **{k: make() for k, make in made.items()})  # type: ignore[operator]
        for spec in ("off", "draft")
    )
    return off, on


@pytest.fixture
def itself(make_engine: EngineFactory, tiny: Model) -> Engine:
    """An engine whose draft model is the model itself."""
    return make_engine(kv_type=STEADY_KV, draft_model=tiny)


@pytest.fixture
def steady(make_engine: EngineFactory, noisy: Model) -> Engine:
    """An engine with a draft model that is often wrong."""
    return make_engine(kv_type=STEADY_KV, draft_model=noisy)


def test_model_that_drafts_for_itself_is_always_right(itself: Engine) -> None:
    off, on = both(itself, prompt_of(1, 40))
    check_same(off, on)
    assert accepted(on) == drafted(on) > 20
    report = on.finish.usage.speculation
    assert report is not None and report.kind == "draft"


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_tokens_are_the_same_as_without_drafts(steady: Engine, sampling: SamplingParams) -> None:
    n_drafted = n_accepted = 0
    for seed in range(4):
        off, on = both(steady, prompt_of(seed, 30), sampling=sampling)
        check_same(off, on)
        n_drafted, n_accepted = n_drafted + drafted(on), n_accepted + accepted(on)
    assert 0 < n_accepted < n_drafted


def test_many_at_once_give_what_they_give_alone(steady: Engine) -> None:
    asked = [(prompt_of(20 + i, 10 + 7 * i), SAMPLINGS[i % len(SAMPLINGS)]) for i in range(8)]
    fields: dict[str, object] = {"max_tokens": 50, "ignore_eos": True, "cache_prompt": False}
    alone = [generate(steady, p, sampling=s, spec="off", **fields).tokens for p, s in asked]
    specs = ["draft", "off", "auto", "draft", "ngram", "draft", "draft", "draft"]
    outcomes = [
        submit(steady, p, sampling=s, spec=spec, **fields)[1] for (p, s), spec in zip(asked, specs, strict=True)
    ]
    assert [o.wait().tokens for o in outcomes] == alone
    assert sum(drafted(o) > 0 for o in outcomes) >= 5


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=1), SamplingParams()], ids=str)
def test_grammar_decides_every_token_and_hears_of_no_draft(itself: Engine, sampling: SamplingParams) -> None:
    off, on = both(itself, prompt_of(7, 40), sampling=sampling, constraint=Cycle)
    assert all(token in (70 + i % 6, 80, 81) for i, token in enumerate(on.tokens))
    if sampling != SamplingParams():
        check_same(off, on)
    off, on = both(itself, prompt_of(7, 40), sampling=sampling, constraint=SameToken)
    check_same(off, on)


@pytest.mark.parametrize("n", [60, 61, 67])
@pytest.mark.parametrize("cause", ["stop_string", "max_tokens", "context_full"])
def test_an_end_within_a_draft_is_exact_and_leaves_no_draft_behind(
    make_engine: EngineFactory, tiny: Model, n: int, cause: str
) -> None:
    engine = make_engine(n_ctx=256, n_slots=2, kv_type=STEADY_KV, draft_model=tiny)
    prompt = prompt_of(9, engine.n_ctx - n if cause == "context_full" else 60)
    fields: dict[str, object] = {"ignore_eos": True, "spec": "draft"}
    if cause == "stop_string":
        fields["stop"] = StopAfter(n)
    elif cause == "max_tokens":
        fields["max_tokens"] = n
    outcome = generate(engine, prompt, **fields)
    assert (len(outcome.tokens), outcome.finish.cause) == (n, cause)
    assert accepted(outcome) > 10
    assert engine.stats().n_cells_used == len(prompt) + n - 1


def test_end_of_turn_within_a_draft_is_the_end(itself: Engine) -> None:
    ended = 0
    for seed in range(40):
        off, on = both(itself, prompt_of(seed, 20), ignore_eos=False, max_tokens=100)
        check_same(off, on)
        ended += on.finish.cause == "eos"
    assert ended


def test_next_turn_reads_only_what_is_new(itself: Engine) -> None:
    prompt = prompt_of(1, 300)
    first = generate(itself, prompt, max_tokens=40, ignore_eos=True, spec="draft")
    turn = [*prompt, *first.tokens, *prompt_of(2, 10)]
    off, on = both(itself, turn, max_tokens=12)
    check_same(off, on)
    assert accepted(on) > 0
    assert itself.stats().n_draft_cells_used < len(turn) + 40


def test_long_prompt_is_read_in_pieces_before_it_has_drafts(itself: Engine) -> None:
    off, on = both(itself, prompt_of(3, 900), max_tokens=100)
    check_same(off, on)
    assert accepted(on) > 0


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=5)], ids=str)
def test_adapters_of_the_model_are_not_the_drafts(
    make_engine: EngineFactory, tiny: Model, adapters: list[LoraAdapter], sampling: SamplingParams
) -> None:
    engine = make_engine(kv_type=STEADY_KV, adapters=[(a, 0.0) for a in adapters], draft_model=tiny)
    sets: list[tuple[tuple[int, float], ...]] = [(), ((0, 1.0),), ((1, 0.5),), ((0, 1.0), (1, 1.0))]
    fields = {"max_tokens": 40, "ignore_eos": True, "cache_prompt": False, "sampling": sampling}
    prompt = prompt_of(50, 30)
    alone = [generate(engine, prompt, lora=lora, spec="off", **fields).tokens for lora in sets]
    outcomes = [submit(engine, prompt, lora=lora, spec="draft", **fields)[1] for lora in sets]
    assert [o.wait().tokens for o in outcomes] == alone
    assert min(map(drafted, outcomes)) > 0


def test_full_cache_preempts_with_drafts_as_without(make_engine: EngineFactory, noisy: Model) -> None:
    roomy = make_engine(kv_type=STEADY_KV)
    tight = make_engine(n_ctx=512, kv_type=STEADY_KV, draft_model=noisy)
    prompts = [prompt_of(60 + i, 60) for i in range(8)]
    fields: dict[str, object] = {"max_tokens": 60, "ignore_eos": True}
    alone = [generate(roomy, p, spec="off", **fields).tokens for p in prompts]
    outcomes = [submit(tight, p, spec="draft", **fields)[1] for p in prompts]
    assert [o.wait().tokens for o in outcomes] == alone
    stats = tight.stats()
    assert stats.n_preemptions > 0 and stats.n_tokens_accepted > 0
    assert stats.n_cells_used_max <= stats.n_cells == 512


def test_sequence_that_slides_has_no_more_drafts_and_goes_on(make_engine: EngineFactory, tiny_wide: Model) -> None:
    engine = make_engine(model=tiny_wide, n_ctx=256, kv_type=STEADY_KV, draft_model=tiny_wide)
    off, on = both(engine, prompt_of(4, 100), max_tokens=300, context_policy="sinks")
    check_same(off, on)
    assert on.finish.usage.evicted_tokens > 0
    assert 0 < drafted(on) < 200


def test_where_the_draft_model_fails_the_answer_goes_on_without(
    steady: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = generate(steady, prompt_of(5, 30), max_tokens=60, ignore_eos=True, spec="off")
    decode, draft_context = Context.decode, steady._draft_model._context  # type: ignore[union-attr]
    n_left = 10

    def decode_or_fail(context: Context, batch: object) -> int:
        nonlocal n_left
        if context is draft_context:
            n_left -= 1
        return -3 if context is draft_context and n_left < 0 else decode(context, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Context, "decode", decode_or_fail)
    on = generate(steady, prompt_of(5, 30), max_tokens=60, ignore_eos=True, spec="draft", cache_prompt=False)
    check_same(off, on)
    assert drafted(on) > 0 and n_left == -1


def set_costs(monkeypatch: pytest.MonkeyPatch, token_s: float) -> None:
    """Say what things cost, whatever this machine takes: wide batches and reading nothing, a drafted token this."""
    monkeypatch.setattr(WidthCost, "ratio", lambda self, width: 1.0 + width / 1000)
    monkeypatch.setattr(DraftModel, "read_s", lambda self, plain_s: 0.0)
    monkeypatch.setattr(DraftModel, "token_s", lambda self, n_readers, plain_s: token_s * plain_s)
    monkeypatch.setattr(Controller, "_can_afford", lambda self, *_: True)


def test_auto_takes_the_draft_model_where_it_pays_and_lookup_where_a_long_match_is_faster(
    itself: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_costs(monkeypatch, 0.05)
    fields: dict[str, object] = {"max_tokens": 100, "ignore_eos": True, "cache_prompt": False, "spec": "auto"}
    free = generate(itself, prompt_of(6, 40), **fields).finish.usage.speculation
    copied = generate(itself, prompt_of(6, 40), constraint=SameToken(), **fields).finish.usage.speculation
    assert free is not None and "draft" in free.kind and free.accepted > 50
    assert copied is not None and "ngram" in copied.kind and copied.accepted > 50


def test_auto_leaves_a_draft_model_alone_that_is_too_slow(itself: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    set_costs(monkeypatch, 1.5)
    report = generate(itself, prompt_of(6, 40), max_tokens=60, ignore_eos=True, spec="auto").finish.usage.speculation
    assert report is not None and "draft" not in report.kind
    assert itself.stats().n_draft_cells_used == 0


def test_auto_answers_the_same_with_a_draft_model(steady: Engine) -> None:
    prompt = prompt_of(6, 20) * 4
    off = generate(steady, prompt, max_tokens=100, ignore_eos=True, spec="off", cache_prompt=False)
    on = generate(steady, prompt, max_tokens=100, ignore_eos=True, spec="auto", cache_prompt=False)
    check_same(off, on)


def test_random_requests_with_cancels_leak_nothing(make_engine: EngineFactory, noisy: Model) -> None:
    engine = make_engine(n_ctx=512, max_host_cache_bytes=1 << 20, draft_model=noisy)
    rng = random.Random(0)
    samplers_before = SamplerChain.n_alive
    done: list[tuple[int, Outcome]] = []
    for i in range(150):
        done.append(
            submit(
                engine,
                prompt_of(1000 + i % 7, rng.randint(3, 120)),
                max_tokens=rng.randint(1, 50),
                sampling=rng.choice([GREEDY, SamplingParams(), SamplingParams(seed=i)]),
                ignore_eos=True,
                constraint=rng.choice([SameToken, Cycle, lambda: None])(),  # type: ignore[no-untyped-call]
                spec=rng.choice(["draft", "draft", "auto", "off"]),
            )
        )
        if rng.random() < 0.4:
            engine.cancel(rng.choice(done[-8:])[0])
    assert {outcome.wait().finish.reason for _, outcome in done} == {"length", "cancelled"}
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    wait_until(lambda: engine.stats().n_running == 0)
    stats = engine.stats()
    assert stats.n_tokens_accepted > 10
    assert stats.n_cells_used == stats.n_draft_cells_used == stats.n_sequence_ids_used == 0
    assert stats.n_samplers == samplers_before
    memory = engine._draft_model._context.memory  # type: ignore[union-attr]
    assert {memory.last_position(i) for i in range(engine.n_slots)} == {-1}


def test_draft_without_a_draft_model_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="without a draft model") as caught:
        generate(engine, [1, 2], spec="draft")
    assert "--draft-model" in (caught.value.hint or "")


def test_other_vocabulary_is_refused(make_engine: EngineFactory, tiny: Model, tmp_path: Path) -> None:
    with Model(_renamed(tmp_path / "other.gguf")) as other:
        with pytest.raises(RequestError, match="token 9 is"):
            check_draft_model(tiny, other)
        with pytest.raises(RequestError, match="cannot draft for"):
            make_engine(draft_model=other)


@pytest.mark.parametrize(("n_target", "n_draft"), [(0, 100), (100, 0)])
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=3.0, top_k=0, top_p=1.0, min_p=0.0)], ids=str)
def test_vocabularies_of_different_sizes_share_what_they_have_in_common(
    make_engine: EngineFactory, tmp_path: Path, n_target: int, n_draft: int, sampling: SamplingParams
) -> None:
    paths = [write_tiny_model(tmp_path / f"{n}.gguf", n_ctx=4096, n_more_tokens=n) for n in (n_target, n_draft)]
    with Model(paths[0]) as model, Model(paths[1]) as draft:
        engine = make_engine(model=model, kv_type=STEADY_KV, draft_model=draft)
        n_drafted = 0
        for seed in range(10):
            off, on = both(engine, prompt_of(seed, 20), sampling=sampling)
            assert len(on.tokens) == 60
            if sampling == GREEDY:
                check_same(off, on)
            n_drafted += drafted(on)
        engine.close()
    assert n_drafted > 0


def test_vocabularies_of_very_different_sizes_are_refused(tiny: Model, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "large.gguf", n_more_tokens=129)
    with Model(path) as large, pytest.raises(RequestError, match="402 tokens and the other 273"):
        check_draft_model(tiny, large)


def test_model_that_cannot_roll_back_is_refused_by_name(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "can_roll_back", property(lambda self: False))
    with pytest.raises(RequestError, match=r"tiny\.gguf cannot be used as a draft model"):
        check_draft_model(tiny, tiny)


def _renamed(path: Path) -> Path:
    """Write a tiny model in which one token is another, equally long."""
    write_tiny_model(path)
    data, name = path.read_bytes(), b"\x01\0\0\0\0\0\0\0"
    tokens = name + b"*" + name + b"+"
    assert data.count(tokens) == 1
    path.write_bytes(data.replace(tokens, name + b"\x7f" + name + b"+"))
    return path
