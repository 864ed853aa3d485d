"""Requests with different LoRA adapters on one engine."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine import aside as aside_module
from localllm.engine.rota import TURN_S
from localllm.errors import RequestError
from localllm.llama import LoraAdapter, Model, SamplerChain
from tests.engine.driving import GREEDY, EngineFactory, Outcome, generate, greedy_reference, prompt_of, submit

KV = "q8_0"
NONE: tuple[tuple[int, float], ...] = ()
SETS = {"none": NONE, "A": ((0, 1.0),), "B": ((1, 1.0),), "both": ((0, 1.0), (1, 0.5)), "half A": ((0, 0.5),)}


@pytest.fixture
def make(make_engine: EngineFactory, adapters: list[LoraAdapter]) -> Callable[..., Engine]:
    """Makes engines with both adapters loaded, A to be applied where a request does not say."""

    def make(**options: object) -> Engine:
        return make_engine(kv_type=KV, adapters=zip(adapters, (1.0, 0.0), strict=True), **options)

    return make


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is of another set: the tiny model would be done within one turn."""
    monkeypatch.setattr("localllm.engine.rota.TURN_S", 0.0)


def reference(tiny: Model, adapters: list[LoraAdapter], prompt: list[int], n: int, name: str) -> list[int]:
    return greedy_reference(tiny, prompt, n, KV, [(adapters[number], scale) for number, scale in SETS[name]])


def test_each_set_says_something_else_and_what_llama_cpp_says_with_it(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter]
) -> None:
    engine, prompt = make(), prompt_of(1, 40)
    said = {name: generate(engine, prompt, max_tokens=30, lora=lora).tokens for name, lora in SETS.items()}
    assert said == {name: reference(tiny, adapters, prompt, 30, name) for name in SETS}
    assert len({tuple(tokens) for tokens in said.values()}) == len(SETS)


def test_request_that_names_none_gets_the_scales_of_the_load(make: Callable[..., Engine]) -> None:
    engine, prompt = make(), prompt_of(2, 40)
    plain = generate(engine, prompt, max_tokens=20).tokens
    assert plain == generate(engine, prompt, max_tokens=20, lora=SETS["A"]).tokens
    assert plain != generate(engine, prompt, max_tokens=20, lora=NONE).tokens


def test_same_set_written_otherwise_is_the_same(make: Callable[..., Engine]) -> None:
    engine, prompt = make(), prompt_of(3, 100)
    generate(engine, prompt, max_tokens=2, lora=((0, 1.0), (1, 0.5)))
    again = generate(engine, prompt, max_tokens=2, lora=((1, 0.5), (0, 1)))
    assert again.finish.usage.cached_tokens == 99
    generate(engine, prompt, max_tokens=2, lora=())
    assert generate(engine, prompt, max_tokens=2, lora=((1, 0.0),)).finish.usage.cached_tokens == 99


@pytest.mark.parametrize(
    ("lora", "message", "hint"),
    [
        (((2, 1.0),), "no LoRA adapter 2", r"0 \(a.gguf\), 1 \(b.gguf\)"),
        (((-1, 1.0),), "no LoRA adapter -1", r"0 \(a.gguf\)"),
        (((0, 1.0), (0, 0.5)), "named twice", "once"),
        (((0, float("nan")),), "scale of LoRA adapter 0 is nan", "1 is"),
        (((1, 10.5),), "from -10 to 10", "1 is"),
    ],
)
def test_bad_choice_of_adapters_is_refused(
    make: Callable[..., Engine], lora: tuple[tuple[int, float], ...], message: str, hint: str
) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        submit(make(), [1, 2, 3], lora=lora)
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)


def test_engine_without_adapters_says_so(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no LoRA adapter 0") as caught:
        submit(engine, [1, 2, 3], lora=((0, 1.0),))
    assert caught.value.hint is not None and "without adapters" in caught.value.hint
    assert generate(engine, [1, 2, 3], max_tokens=1, lora=()).finish.reason in ("length", "stop")


@pytest.mark.usefixtures("short_turns")
def test_interleaved_sets_give_the_tokens_they_give_alone(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter]
) -> None:
    engine = make()
    asked = [(name, prompt_of(10 + i, 20 + 15 * i)) for i, name in enumerate([*SETS, *SETS])]
    outcomes = [submit(engine, prompt, max_tokens=30, lora=SETS[name])[1] for name, prompt in asked]
    for (name, prompt), outcome in zip(asked, outcomes, strict=True):
        assert outcome.wait().tokens == reference(tiny, adapters, prompt, 30, name), name
    assert engine.stats().n_adapter_switches > 50


def test_same_prompt_with_other_adapters_shares_no_cells(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter]
) -> None:
    engine, prompt = make(), prompt_of(30, 200)
    for name, lora in SETS.items():
        outcome = generate(engine, prompt, max_tokens=10, lora=lora)
        assert outcome.finish.usage.cached_tokens == 0, name
        assert outcome.tokens == reference(tiny, adapters, prompt, 10, name)
    for name, lora in SETS.items():
        outcome = generate(engine, prompt, max_tokens=10, lora=lora)
        assert outcome.finish.usage.cached_tokens == 199, name
        assert outcome.tokens == reference(tiny, adapters, prompt, 10, name)


@pytest.mark.usefixtures("short_turns")
def test_same_prompt_at_once_with_other_adapters_shares_no_cells(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter]
) -> None:
    engine, prompt = make(), prompt_of(31, 300)
    names = ["A", "none", "A", "none", "B"]
    outcomes = [submit(engine, prompt, max_tokens=10, lora=SETS[name])[1].wait for name in names]
    done = [wait() for wait in outcomes]
    assert [outcome.finish.usage.cached_tokens for outcome in done] == [0, 0, 299, 299, 0]
    for name, outcome in zip(names, done, strict=True):
        assert outcome.tokens == reference(tiny, adapters, prompt, 10, name)


@pytest.mark.usefixtures("short_turns")
def test_preempted_sequence_goes_on_with_its_own_adapters(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter]
) -> None:
    engine = make(n_ctx=512)
    asked = [(name, prompt_of(40 + i, 80)) for i, name in enumerate([*SETS, "A", "none", "both"])]
    outcomes = [submit(engine, p, max_tokens=48, lora=SETS[name], ignore_eos=True)[1] for name, p in asked]
    for (name, prompt), outcome in zip(asked, outcomes, strict=True):
        expected = reference(tiny, adapters, prompt, 48, name)
        assert outcome.wait().tokens[: len(expected)] == expected, name
        assert len(outcome.tokens) == 48
    assert engine.stats().n_preemptions > 0


def test_one_set_never_switches(make: Callable[..., Engine]) -> None:
    engine = make()
    for outcome in [submit(engine, prompt_of(50 + i, 30), max_tokens=20)[1] for i in range(12)]:
        outcome.wait()
    assert engine.stats().n_adapter_switches == 1


def test_set_keeps_its_turn_for_many_steps(make: Callable[..., Engine]) -> None:
    engine = make()
    outcomes = [
        submit(engine, prompt_of(60 + i, 20), max_tokens=300, lora=lora, ignore_eos=True)[1]
        for i, lora in enumerate((SETS["A"], SETS["B"]))
    ]
    started = time.monotonic()
    for outcome in outcomes:
        outcome.wait()
    elapsed_s = time.monotonic() - started
    assert engine.stats().n_adapter_switches <= elapsed_s / TURN_S + 4


def test_constant_arrivals_of_one_set_do_not_starve_another(make: Callable[..., Engine]) -> None:
    engine = make(n_slots=4)
    stop = threading.Event()

    def keep_coming(seed: int) -> None:
        while not stop.is_set():
            generate(engine, prompt_of(seed, 60), max_tokens=5, lora=SETS["A"], ignore_eos=True, cache_prompt=False)
            seed += 10

    threads = [threading.Thread(target=keep_coming, args=(70 + i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.2)
        before = engine.stats().n_finished
        outcome = generate(engine, prompt_of(80, 60), max_tokens=100, lora=SETS["B"], ignore_eos=True)
        n_others = engine.stats().n_finished - before - 1
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(outcome.tokens) == 100
    assert n_others > 0
    clock_s = outcome.finish.timings
    assert clock_s.decode_s < 30 * TURN_S
    assert clock_s.ttft_s < 20 * TURN_S


@pytest.mark.usefixtures("short_turns")
def test_prompt_computed_aside_has_its_own_adapters_and_streams_have_theirs(
    make: Callable[..., Engine], tiny: Model, adapters: list[LoraAdapter], made: list[aside_module.Aside]
) -> None:
    prompt = prompt_of(110, 600)
    expected = {name: reference(tiny, adapters, prompt, 15, name) for name in ("both", "A", "none")}
    engine = make(n_ctx=4096)
    asked = [("A", prompt_of(100, 20)), ("none", prompt_of(101, 30))]
    streams = [submit(engine, p, max_tokens=1500, lora=SETS[name], ignore_eos=True)[1] for name, p in asked]
    for stream in streams:
        stream.wait_for_token(3)
    for name, tokens in expected.items():
        outcome = generate(engine, prompt, max_tokens=15, lora=SETS[name])
        assert outcome.tokens == tokens
        assert outcome.finish.usage.cached_tokens == 0
    assert len(made) == 3
    for (name, p), stream in zip(asked, streams, strict=True):
        tokens = reference(tiny, adapters, p, 200, name)
        assert stream.wait().tokens[: len(tokens)] == tokens


@pytest.mark.usefixtures("short_turns")
def test_random_requests_with_random_sets_and_cancels_leak_nothing(make: Callable[..., Engine]) -> None:
    engine = make(n_ctx=768, max_host_cache_bytes=1 << 20)
    rng = random.Random(0)
    samplers_before = SamplerChain.n_alive
    prefixes = [prompt_of(300 + i, 60) for i in range(3)]
    done: list[tuple[int, Outcome]] = []
    for i in range(300):
        prompt = [*rng.choice(prefixes)[: rng.randint(0, 60)], *prompt_of(1000 + i, rng.randint(1, 40))]
        lora = rng.choice([None, *SETS.values(), ((1, round(rng.uniform(-2, 2), 2)),)])
        sampling = rng.choice([GREEDY, SamplingParams(seed=i)])
        done.append(submit(engine, prompt, max_tokens=rng.randint(1, 12), sampling=sampling, ignore_eos=True,
                           lora=lora, cache_prompt=rng.random() < 0.9))  # fmt: skip
        if rng.random() < 0.3:
            engine.cancel(rng.choice(done)[0])
    assert {outcome.wait().finish.reason for _, outcome in done} == {"length", "cancelled"}
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    stats = engine.stats()
    assert stats.n_cells_used == stats.n_cells_idle == stats.n_sequence_ids_used == stats.host_cache_bytes == 0
    assert stats.n_cached_prefixes == len(engine._cache._trees) == 0
    assert stats.n_samplers == samplers_before
    assert stats.n_cells_used_max <= stats.n_cells == 768
