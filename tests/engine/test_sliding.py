"""Sequences that slide: against a bare loop, beside others, with shared prefixes, preempted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from localllm.engine import Engine
from localllm.engine.cells import CellPool
from localllm.engine.context_policy import Window
from localllm.errors import ContextLengthExceeded, RequestError
from localllm.llama import Batch, Context, ContextParams, KVMemory, Model
from localllm.llama.context import DECODE_ABORTED, DECODE_OK
from tests.engine.driving import EngineFactory, Outcome, generate, prompt_of, sliding_reference, submit
from tests.tiny_model import write_tiny_model

N_CTX = 256
SINKS = Window(4, N_CTX)
SLIDING = {"context_policy": "sinks", "ignore_eos": True}


@pytest.fixture
def make_steady(make_engine: EngineFactory, tiny_wide: Model) -> EngineFactory:
    """Engines with a q8_0 cache, where how tokens are batched, and where cells lie, does not matter to the bit."""
    return partial(make_engine, model=tiny_wide, kv_type="q8_0")


@pytest.fixture
def engine(make_steady: EngineFactory) -> Engine:
    return make_steady(n_ctx=N_CTX)


def n_evicted(n_computed: int, window: Window = SINKS) -> int:
    """Return how many tokens are gone when so many were computed, sliding only where the context is full."""
    return max(0, -(-(n_computed - window.n_ctx) // window.n_step)) * window.n_step


@pytest.mark.parametrize("n_prompt", [10, N_CTX - 1, N_CTX, N_CTX + 1, 1000])
def test_sinks_generate_what_a_bare_sliding_loop_does(engine: Engine, tiny_wide: Model, n_prompt: int) -> None:
    prompt = prompt_of(n_prompt, n_prompt)
    outcome = generate(engine, prompt, max_tokens=400, **SLIDING)
    assert outcome.tokens == sliding_reference(tiny_wide, prompt, 400, SINKS)
    assert outcome.finish.usage.evicted_tokens == n_evicted(n_prompt + 399)
    assert engine.stats().n_tokens_evicted == n_evicted(n_prompt + 399)
    assert engine.stats().n_cells_used_max <= N_CTX


@pytest.mark.parametrize(
    ("fields", "n_head"),
    [
        ({"context_policy": "shift"}, 0),
        ({"context_policy": "shift", "n_keep": 30}, 30),
        ({"context_policy": "shift", "n_keep": -1}, 100),
        ({"context_policy": "sinks", "n_sink": 0}, 0),
        ({"context_policy": "sinks", "n_sink": 17}, 17),
    ],
)
def test_head_is_what_the_request_says(
    engine: Engine, tiny_wide: Model, fields: dict[str, object], n_head: int
) -> None:
    prompt = prompt_of(1, 100)
    window = Window(n_head, N_CTX)
    outcome = generate(engine, prompt, max_tokens=300, ignore_eos=True, **fields)
    assert outcome.tokens == sliding_reference(tiny_wide, prompt, 300, window)
    assert outcome.finish.usage.evicted_tokens == n_evicted(399, window)


def test_shift_keeps_bos(engine: Engine, tiny_wide: Model) -> None:
    assert tiny_wide.vocab.bos is not None
    prompt = [tiny_wide.vocab.bos, *prompt_of(2, 100)]
    outcome = generate(engine, prompt, max_tokens=300, ignore_eos=True, context_policy="shift")
    assert outcome.tokens == sliding_reference(tiny_wide, prompt, 300, Window(1, N_CTX))


def test_context_that_is_not_filled_loses_nothing(engine: Engine) -> None:
    prompt = prompt_of(3, N_CTX - 20)
    outcome = generate(engine, prompt, max_tokens=21, **SLIDING)
    assert outcome.finish.usage.evicted_tokens == 0
    again = generate(engine, prompt, max_tokens=1)
    assert again.finish.usage.cached_tokens == N_CTX - 21


def test_error_is_the_default(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded, match="300 tokens"):
        submit(engine, prompt_of(4, 300))
    outcome = generate(engine, prompt_of(4, 250), ignore_eos=True)
    assert (outcome.finish.cause, outcome.finish.usage.evicted_tokens) == ("context_full", 0)


@pytest.fixture
def one_layer(tmp_path: Path) -> Iterator[Model]:
    with Model(write_tiny_model(tmp_path / "one.gguf", n_layer=1, n_embd=128, n_ctx=1024)) as model:
        yield model


@pytest.mark.parametrize(("kv_type", "tolerance"), [("f32", 0.02), ("f16", 0.05), ("q8_0", 0.1)])
def test_slid_cells_equal_a_fresh_computation_of_the_kept_tokens(
    one_layer: Model, kv_type: str, tolerance: float
) -> None:
    """With one layer, a cell depends on its own token alone, so this is exact but for the cache's rounding."""
    tokens, n_head, n_gone = prompt_of(5, 101), 4, 30
    params = ContextParams(n_ctx=N_CTX, n_threads=1, kv_type_k=kv_type, kv_type_v=kv_type)
    with Context(one_layer, params) as slid, Context(one_layer, params) as fresh:
        pool = CellPool(slid.memory, slid, slid.n_ctx, 1)
        seq_id = pool.allocate()
        _compute(slid, tokens[:100], 0)
        pool.grow(seq_id, 100)
        assert pool.slide(seq_id, n_head, n_gone)
        found = _compute(slid, tokens[100:], 100 - n_gone)
        expected = _compute(fresh, [*tokens[:n_head], *tokens[n_head + n_gone :]], 0)
        fresh.memory.clear()
        unslid = _compute(fresh, tokens, 0)
    assert np.abs(found - expected).max() < tolerance
    assert np.abs(unslid - expected).max() > 3 * tolerance


def _compute(context: Context, tokens: list[int], n_past: int) -> np.ndarray:
    batch = Batch(context.n_batch)
    index = batch.add_run(tokens, n_past, 0, last_wants_logits=True)
    assert context.decode(batch) == 0
    return context.logits(index).copy()


def test_slid_and_unslid_sequences_get_side_by_side_what_they_get_alone(
    make_steady: EngineFactory, tiny_wide: Model
) -> None:
    engine = make_steady(n_ctx=1024)
    window = Window(4, 1024)
    prompts = [prompt_of(10 + i, n) for i, n in enumerate((900, 50, 2000, 60))]
    policies = [{"context_policy": "sinks"}, {}, {"context_policy": "sinks"}, {}]
    outcomes = [
        submit(engine, prompt, max_tokens=300, ignore_eos=True, **policy)[1]
        for prompt, policy in zip(prompts, policies, strict=True)
    ]
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        assert outcome.wait().tokens == sliding_reference(tiny_wide, prompt, 300, window)
    assert [o.finish.usage.evicted_tokens for o in outcomes] == [
        n_evicted(len(prompt) + 299, window) for prompt in prompts
    ]
    assert engine.stats().n_preemptions > 0


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Model]:
    """A model trained on 256 tokens, so that several sequences may be full in one pool."""
    with Model(write_tiny_model(tmp_path / "short.gguf", n_embd=128, n_ctx=N_CTX)) as model:
        yield model


def test_preempted_slid_sequence_goes_on_with_the_same_tokens(make_steady: EngineFactory, short: Model) -> None:
    """Three that fill their contexts, in a pool for two: the youngest, slid already, waits in RAM and comes back."""
    engine = make_steady(model=short, n_ctx=2 * N_CTX)
    prompts = [prompt_of(20, 10), prompt_of(21, 12), prompt_of(22, 600)]
    outcomes = [submit(engine, prompt, max_tokens=500, **SLIDING)[1] for prompt in prompts]
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        assert outcome.wait().tokens == sliding_reference(short, prompt, 500, SINKS)
        assert outcome.finish.usage.evicted_tokens == n_evicted(len(prompt) + 499)
    assert outcomes[2].finish.timings.n_preemptions > 0
    assert engine.stats().n_cells_used_max <= 2 * N_CTX
    engine.close()


def test_sliding_one_leaves_those_that_share_its_prefix_where_they_are(
    make_steady: EngineFactory, tiny_wide: Model
) -> None:
    engine = make_steady(n_ctx=1024)
    prefix = prompt_of(30, 600)
    prompts = [[*prefix, *prompt_of(31, 20)], [*prefix, *prompt_of(32, 30)], [*prefix, *prompt_of(33, 40)]]
    generate(engine, prefix, max_tokens=1)
    outcomes = [submit(engine, p, max_tokens=n, **SLIDING)[1] for p, n in zip(prompts, (500, 100, 20), strict=True)]
    for prompt, n, outcome in zip(prompts, (500, 100, 20), outcomes, strict=True):
        assert outcome.wait().tokens == sliding_reference(tiny_wide, prompt, n, Window(4, 1024))
        assert outcome.finish.usage.cached_tokens >= 599
    again = generate(engine, [*prefix, *prompt_of(34, 5)], max_tokens=30, ignore_eos=True)
    assert again.finish.usage.cached_tokens == 600
    assert again.tokens == sliding_reference(tiny_wide, [*prefix, *prompt_of(34, 5)], 30, Window(4, 1024))


def test_slid_sequence_leaves_only_its_head_to_others(engine: Engine, tiny_wide: Model) -> None:
    prompt = prompt_of(40, 120)
    generate(engine, prompt, max_tokens=200, ignore_eos=True, context_policy="shift", n_keep=50)
    assert engine.stats().n_cells_used == engine.stats().n_cells_idle == 50
    again = generate(engine, prompt, max_tokens=20, ignore_eos=True)
    assert again.finish.usage.cached_tokens == 50
    assert again.tokens == sliding_reference(tiny_wide, prompt, 20, SINKS)


def test_running_slid_sequence_is_no_prefix_for_others(make_steady: EngineFactory, short: Model) -> None:
    engine = make_steady(model=short, n_ctx=4 * N_CTX)
    prompt = prompt_of(45, 200)
    request_id, first = submit(engine, prompt, **SLIDING)
    first.wait_for_token(100)
    second = generate(engine, prompt, max_tokens=20, ignore_eos=True)
    assert second.finish.usage.cached_tokens == 0
    assert second.tokens == sliding_reference(short, prompt, 20, SINKS)
    engine.cancel(request_id)
    assert first.wait().finish.usage.evicted_tokens > 0
    engine.close()


def test_long_prompt_streams_through_beside_a_stream(make_steady: EngineFactory, tiny_wide: Model) -> None:
    """It is not taken to a context of its own, which would have to hold all of it."""
    engine = make_steady(n_ctx=1024)
    stream = submit(engine, prompt_of(50, 20), max_tokens=300, ignore_eos=True)[1].wait_for_token(20)
    long = prompt_of(51, 6000)
    outcome = generate(engine, long, max_tokens=10, **SLIDING)
    assert outcome.tokens == sliding_reference(tiny_wide, long, 10, Window(4, 1024))
    assert stream.wait().tokens == sliding_reference(tiny_wide, prompt_of(50, 20), 300, Window(4, 1024))
    assert [p.n_done for p in outcome.progress][-1] == 6000


def test_cancel_in_the_middle_of_a_sliding_prompt(engine: Engine, tiny_wide: Model) -> None:
    outcome = Outcome()
    request_id, outcome = submit(engine, prompt_of(60, 50_000), max_tokens=10, **SLIDING)
    outcome.events.append(outcome.queue.get(timeout=60))
    engine.cancel(request_id)
    assert outcome.wait().finish.reason == "cancelled"
    prompt = prompt_of(61, 700)
    assert generate(engine, prompt, max_tokens=20, **SLIDING).tokens == sliding_reference(tiny_wide, prompt, 20, SINKS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context_policy": "sinks", "n_sink": -1}, "n_sink is -1"),
        ({"context_policy": "slide"}, "context_policy is 'slide'"),
        ({"context_policy": "sinks", "n_sink": 250}, "first 250 tokens"),
        ({"context_policy": "shift", "n_keep": -1}, "first 300 tokens"),
    ],
)
def test_policies_that_make_no_sense_are_refused(engine: Engine, fields: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        submit(engine, prompt_of(70, 300), **fields)


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q5_1", "q4_0", "iq4_nl"])
def test_every_kv_type_slides_as_in_a_bare_loop(make_engine: EngineFactory, tiny_wide: Model, kv_type: str) -> None:
    engine = make_engine(model=tiny_wide, n_ctx=N_CTX, kv_type=kv_type)
    prompt = prompt_of(80, 200)
    outcome = generate(engine, prompt, max_tokens=150, **SLIDING)
    assert outcome.tokens == sliding_reference(tiny_wide, prompt, 150, SINKS, kv_type)


def test_nothing_interrupts_the_decode_that_rotates_the_keys(
    engine: Engine, tiny_wide: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that is aborted at every second decode, had it its way; llama.cpp would rotate some layers twice."""
    prompt = prompt_of(90, 1500)
    codes: dict[bool, list[int]] = {True: [], False: []}
    has_shifted = False
    decode, shift = Context.decode, KVMemory.shift

    def noting_shift(memory: KVMemory, *where: int) -> None:
        nonlocal has_shifted
        has_shifted = True
        shift(memory, *where)

    def aborted_decode(context: Context, batch: Batch) -> int:
        nonlocal has_shifted
        was_shifted, has_shifted = has_shifted, False
        if was_shifted or len(codes[False]) % 2:
            engine._runner.abort(1)
        code = decode(context, batch)
        codes[was_shifted].append(code)
        return code

    with monkeypatch.context() as patch:
        patch.setattr(KVMemory, "shift", noting_shift)
        patch.setattr(Context, "decode", aborted_decode)
        outcome = generate(engine, prompt, max_tokens=1, **SLIDING)
    assert DECODE_ABORTED in codes[False]
    assert len(codes[True]) > 10 and set(codes[True]) == {DECODE_OK}
    assert outcome.tokens == sliding_reference(tiny_wide, prompt, 1, SINKS)
