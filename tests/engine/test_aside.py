"""Long prompts beside running streams: computed in a second context, in the streams' pauses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from localllm.engine import Engine, SamplingParams
from localllm.engine import aside as aside_module
from localllm.llama import Model, SamplerChain
from tests.engine.driving import EngineFactory, Outcome, generate, greedy_reference, prompt_of, submit, wait_until

KV = "q8_0"


@pytest.fixture
def busy(make_engine: EngineFactory) -> Callable[..., tuple[Engine, Outcome]]:
    """Returns an engine with one running stream."""

    def make(n_ctx: int = 4096, max_tokens: int = 2000) -> tuple[Engine, Outcome]:
        engine = make_engine(n_ctx=n_ctx, kv_type=KV)
        _, stream = submit(engine, prompt_of(1, 20), max_tokens=max_tokens, ignore_eos=True)
        stream.wait_for_token(3)
        return engine, stream

    return make


def test_prompt_computed_aside_gives_the_same_tokens(
    busy: Callable[..., tuple[Engine, Outcome]], tiny: Model, made: list[aside_module.Aside]
) -> None:
    engine, _ = busy()
    prompt = prompt_of(2, 1500)
    outcome = generate(engine, prompt, max_tokens=20)
    assert len(made) == 1
    assert outcome.tokens == greedy_reference(tiny, prompt, 20, KV)
    assert outcome.progress[-1].n_done == outcome.progress[-1].n_total == 1500


def test_streams_go_on_while_a_prompt_is_computed_aside(
    busy: Callable[..., tuple[Engine, Outcome]], made: list[aside_module.Aside], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.engine.cost.SMOOTH_STEP_S", 0.002)
    engine, _ = busy()
    before = engine.stats().n_tokens_decoded
    generate(engine, prompt_of(3, 3000), max_tokens=1)
    assert made and engine.stats().n_tokens_decoded - before > 10


def test_stream_beside_a_prompt_keeps_its_own_tokens(
    busy: Callable[..., tuple[Engine, Outcome]], tiny: Model, made: list[aside_module.Aside]
) -> None:
    engine, stream = busy(max_tokens=300)
    generate(engine, prompt_of(4, 2000), max_tokens=5)
    tokens = stream.wait().tokens
    expected = greedy_reference(tiny, prompt_of(1, 20), 300, KV)
    assert made and tokens[: len(expected)] == expected


def test_prefix_from_the_cache_is_taken_along(
    busy: Callable[..., tuple[Engine, Outcome]], tiny: Model, made: list[aside_module.Aside]
) -> None:
    engine, _ = busy()
    prefix = prompt_of(5, 400)
    generate(engine, prefix, max_tokens=2)
    prompt = [*prefix, *prompt_of(6, 900)]
    outcome = generate(engine, prompt, max_tokens=15)
    assert outcome.finish.usage.cached_tokens == 400
    assert outcome.tokens == greedy_reference(tiny, prompt, 15, KV)


def test_prompt_computed_aside_is_shared_with_the_next(
    busy: Callable[..., tuple[Engine, Outcome]], made: list[aside_module.Aside]
) -> None:
    engine, _ = busy()
    prompt = prompt_of(7, 1200)
    outcomes = [submit(engine, prompt, max_tokens=20, ignore_eos=True)[1] for _ in range(3)]
    tokens = [o.wait().tokens for o in outcomes]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len(made) == 1
    assert [o.finish.usage.cached_tokens for o in outcomes] == [0, 1199, 1199]


def test_cancel_while_a_prompt_is_computed_aside(
    busy: Callable[..., tuple[Engine, Outcome]], made: list[aside_module.Aside]
) -> None:
    engine, stream = busy()
    request_id, outcome = submit(engine, prompt_of(8, 2500), max_tokens=5)
    wait_until(lambda: bool(made))
    engine.cancel(request_id)
    assert outcome.wait().finish.reason == "cancelled"
    assert outcome.tokens == []
    stream.wait_for_token(len(stream.token_events) + 5)
    assert engine.stats().n_running == 1


def test_close_while_a_prompt_is_computed_aside(
    busy: Callable[..., tuple[Engine, Outcome]], made: list[aside_module.Aside]
) -> None:
    engine, stream = busy()
    _, outcome = submit(engine, prompt_of(9, 2500), max_tokens=5)
    wait_until(lambda: bool(made))
    engine.close()
    assert outcome.wait().finish.reason == stream.wait().finish.reason == "cancelled"


def test_books_are_even_after_prompts_aside_and_cancels(
    busy: Callable[..., tuple[Engine, Outcome]], made: list[aside_module.Aside]
) -> None:
    samplers = SamplerChain.n_alive
    engine, _ = busy(n_ctx=2048, max_tokens=1500)
    sampling = SamplingParams(temperature=1.0, seed=1)
    submitted = [
        submit(engine, prompt_of(20 + i, 300 + 40 * i), max_tokens=30, ignore_eos=True, sampling=sampling)
        for i in range(10)
    ]
    assert engine.stats().n_samplers > samplers
    for request_id, _ in submitted[::3]:
        engine.cancel(request_id)
    for _, outcome in submitted:
        assert outcome.wait().finish.reason in ("length", "cancelled")
    engine.cancel(1)
    wait_until(lambda: engine.stats().n_running == 0)
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    stats = engine.stats()
    assert made
    assert stats.n_cells_used == stats.n_sequence_ids_used == stats.host_cache_bytes == 0
    assert stats.n_samplers == samplers
    assert stats.n_cells_used_max <= stats.n_cells


def test_without_memory_for_a_second_context_the_prompt_is_chunked(
    busy: Callable[..., tuple[Engine, Outcome]],
    tiny: Model,
    made: list[aside_module.Aside],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("localllm.engine.long_prompts.available_ram_bytes", lambda: 0)
    engine, _ = busy()
    prompt = prompt_of(10, 800)
    assert generate(engine, prompt, max_tokens=10).tokens == greedy_reference(tiny, prompt, 10, KV)
    assert not made
