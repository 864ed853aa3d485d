from __future__ import annotations

import math
import random
import threading

import pytest

from localllm.engine import Engine, GenerationRequest, SamplingParams, scheduler
from localllm.errors import ContextLengthExceeded, EngineClosed, RequestError
from localllm.llama import KV_TYPES, Batch, Context, Model, SamplerChain
from localllm.llama.context import DECODE_OK
from tests.engine.drafting import StopAfter
from tests.engine.driving import (
    GREEDY,
    STEADY_KV,
    EngineFactory,
    Outcome,
    generate,
    greedy_reference,
    prompt_of,
    submit,
    wait_until,
)


def test_greedy_output_equals_a_bare_decode_loop(engine: Engine, tiny: Model) -> None:
    for seed in range(4):
        prompt = prompt_of(seed, 20 + 60 * seed)
        assert generate(engine, prompt, max_tokens=40).tokens == greedy_reference(tiny, prompt, 40)


def test_events_come_in_order_and_end_with_one_finish(engine: Engine) -> None:
    outcome = generate(engine, prompt_of(1, 300), max_tokens=5, ignore_eos=True)
    kinds = [type(e).__name__ for e in outcome.events]
    n = len(outcome.progress)
    assert kinds == ["PrefillProgress"] * n + ["TokenEvent"] * 5 + ["FinishEvent"]
    assert [p.n_done for p in outcome.progress] == sorted(p.n_done for p in outcome.progress)
    assert outcome.progress[-1].n_done == outcome.progress[-1].n_total == 300


def test_requests_that_come_together_start_together(
    make_engine: EngineFactory, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that has just begun is begun anew with the next one, and both get what they would get alone."""
    engine = make_engine()
    prompts = [prompt_of(seed, 200) for seed in (70, 71)]
    generate(engine, prompt_of(72, 300), max_tokens=4)
    others: list[Outcome] = []
    decoded: list[int] = []
    decode = Context.decode

    def decode_while_another_comes(context: Context, batch: Batch) -> int:
        if not others:
            others.append(submit(engine, prompts[1], max_tokens=8)[1])
        code = decode(context, batch)
        decoded.append(batch.n_tokens if code == DECODE_OK else 0)
        return code

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "YOUNG_SHARE", 100.0)
        patch.setattr(Context, "decode", decode_while_another_comes)
        first = generate(engine, prompts[0], max_tokens=8)
        others[0].wait()
    assert decoded[:2] == [0, 400]
    assert [first.tokens, others[0].tokens] == [greedy_reference(tiny, prompt, 8) for prompt in prompts]


def test_usage_and_reason_at_the_token_limit(engine: Engine) -> None:
    finish = generate(engine, prompt_of(2, 30), max_tokens=7, ignore_eos=True).finish
    assert (finish.reason, finish.cause) == ("length", "max_tokens")
    assert (finish.usage.prompt_tokens, finish.usage.completion_tokens) == (30, 7)
    assert finish.timings.ttft_s > 0 and finish.timings.decode_tok_s > 0


def test_end_of_turn_token_stops_and_is_not_emitted(engine: Engine, tiny: Model) -> None:
    (eos,) = [t for t in tiny.vocab.eog_tokens if t == tiny.vocab.eos]
    outcome = generate(engine, prompt_of(3, 10), sampling=SamplingParams(temperature=0, logit_bias={eos: 1000.0}))
    assert outcome.tokens == []
    assert (outcome.finish.reason, outcome.finish.cause) == ("stop", "eos")


def test_context_end_finishes_with_length(make_engine: EngineFactory) -> None:
    engine = make_engine(n_ctx=256)
    outcome = generate(engine, prompt_of(4, 250), ignore_eos=True)
    assert (outcome.finish.reason, outcome.finish.cause) == ("length", "context_full")
    assert outcome.finish.usage.completion_tokens == engine.n_ctx - 250


@pytest.mark.parametrize("n", [256, 257, 5000])
def test_prompt_that_leaves_no_room_is_refused_with_both_numbers(make_engine: EngineFactory, n: int) -> None:
    engine = make_engine(n_ctx=256)
    with pytest.raises(ContextLengthExceeded, match=rf"{n} tokens.*256"):
        submit(engine, prompt_of(5, n))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"n_logprobs": 21},
        {"sampling": SamplingParams(temperature=-1.0)},
        {"sampling": SamplingParams(temperature=math.nan)},
        {"sampling": SamplingParams(top_p=0.0)},
        {"sampling": SamplingParams(min_p=2.0)},
        {"sampling": SamplingParams(repeat_penalty=0.0)},
        {"sampling": SamplingParams(mirostat=3)},
        {"sampling": SamplingParams(logit_bias={10**6: 1.0})},
        {"sampling": SamplingParams(logit_bias={1: math.nan})},
    ],
)
def test_values_out_of_range_are_refused(engine: Engine, fields: dict[str, object]) -> None:
    with pytest.raises(RequestError) as caught:
        submit(engine, prompt_of(6, 5), **fields)
    assert caught.value.hint


@pytest.mark.parametrize("prompt", [[], [-1], [10**6]])
def test_impossible_prompts_are_refused(engine: Engine, prompt: list[int]) -> None:
    with pytest.raises(RequestError):
        submit(engine, prompt)


def test_second_request_reuses_a_shared_prefix(engine: Engine, tiny: Model) -> None:
    prefix = prompt_of(7, 400)
    generate(engine, [*prefix, *prompt_of(8, 20)], max_tokens=3)
    prompt = [*prefix, *prompt_of(9, 20)]
    outcome = generate(engine, prompt, max_tokens=20)
    assert outcome.finish.usage.cached_tokens == 400
    assert outcome.tokens == greedy_reference(tiny, prompt, 20)


def test_repeated_prompt_computes_only_its_last_token(engine: Engine) -> None:
    prompt = prompt_of(10, 100)
    first = generate(engine, prompt, max_tokens=10)
    again = generate(engine, prompt, max_tokens=10)
    assert again.finish.usage.cached_tokens == 99
    assert again.tokens == first.tokens


def test_uncached_request_reuses_and_leaves_nothing(engine: Engine) -> None:
    prompt = prompt_of(11, 100)
    generate(engine, prompt, max_tokens=3, cache_prompt=False)
    assert engine.stats().n_cells_used == 0
    generate(engine, prompt, max_tokens=3)
    assert generate(engine, prompt, max_tokens=3, cache_prompt=False).finish.usage.cached_tokens == 0


def test_prefix_that_moved_to_ram_comes_back_bit_for_bit(engine: Engine, tiny: Model) -> None:
    prompt = prompt_of(12, 500)
    first = generate(engine, prompt, max_tokens=20)
    generate(engine, prompt_of(13, 30), max_tokens=30, ignore_eos=True)
    stats = engine.stats()
    assert stats.n_cells_idle <= 256 and stats.host_cache_bytes > 0
    again = generate(engine, prompt, max_tokens=20)
    assert again.finish.usage.cached_tokens == 499
    assert again.tokens == first.tokens


def test_identical_prompts_at_once_are_computed_once(engine: Engine) -> None:
    prompt = prompt_of(14, 400)
    outcomes = [submit(engine, prompt, max_tokens=10)[1] for _ in range(4)]
    tokens = [o.wait().tokens for o in outcomes]
    assert all(t == tokens[0] for t in tokens)
    assert [o.finish.usage.cached_tokens for o in outcomes] == [0, 399, 399, 399]


def test_longer_conversation_replaces_the_shorter_one_in_the_cache(engine: Engine) -> None:
    prompt = prompt_of(15, 60)
    for _ in range(5):
        outcome = generate(engine, prompt, max_tokens=8, ignore_eos=True)
        prompt = [*prompt, *outcome.tokens, *prompt_of(len(prompt), 20)]
        assert engine.stats().n_cached_prefixes == 1


def test_cancel_ends_a_running_request(engine: Engine) -> None:
    request_id, outcome = submit(engine, prompt_of(16, 20), ignore_eos=True)
    outcome.wait_for_token(3)
    engine.cancel(request_id)
    assert outcome.wait().finish.reason == "cancelled"
    wait_until(lambda: engine.stats().n_running == 0)


def test_cancel_between_the_chunks_of_a_long_prefill(make_engine: EngineFactory) -> None:
    engine = make_engine(n_ctx=4096)
    request_id, outcome = submit(engine, prompt_of(17, 4000), max_tokens=5)
    while not outcome.progress:
        outcome.events.append(outcome.queue.get(timeout=30))
    engine.cancel(request_id)
    finish = outcome.wait().finish
    assert finish.reason == "cancelled"
    assert outcome.tokens == [] and outcome.progress[-1].n_done < 4000


def test_cancelled_waiting_request_never_starts(make_engine: EngineFactory) -> None:
    engine = make_engine(n_slots=1)
    first_id, first = submit(engine, prompt_of(18, 20), ignore_eos=True)
    second_id, second = submit(engine, prompt_of(19, 20), ignore_eos=True)
    first.wait_for_token()
    engine.cancel(second_id)
    assert second.wait().tokens == []
    engine.cancel(first_id)
    first.wait()


def test_cancel_of_an_unknown_request_is_ignored(engine: Engine) -> None:
    engine.cancel(12345)
    assert generate(engine, prompt_of(20, 5), max_tokens=2).finish.reason in ("length", "stop")


def test_full_cache_preempts_and_every_request_finishes_with_the_right_tokens(
    make_engine: EngineFactory, tiny: Model
) -> None:
    engine = make_engine(n_ctx=512, kv_type=STEADY_KV)
    prompts = [prompt_of(100 + i, 80) for i in range(8)]
    outcomes = [submit(engine, p, max_tokens=48, ignore_eos=True)[1] for p in prompts]
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        assert outcome.wait().finish.reason == "length"
        assert len(outcome.tokens) == 48
        expected = greedy_reference(tiny, prompt, 48, STEADY_KV)
        assert outcome.tokens[: len(expected)] == expected
    stats = engine.stats()
    assert stats.n_preemptions > 0
    assert stats.n_cells_used_max <= stats.n_cells == 512


def test_preempted_sequence_resumes_with_the_same_tokens(make_engine: EngineFactory) -> None:
    sampling = [SamplingParams(seed=i, temperature=1.0) for i in range(6)]
    prompts = [prompt_of(200 + i, 60) for i in range(6)]
    roomy, tight = (make_engine(n_ctx=n, kv_type=STEADY_KV) for n in (2048, 256))
    alone = [generate(roomy, p, max_tokens=60, ignore_eos=True, sampling=s).tokens
             for p, s in zip(prompts, sampling, strict=True)]  # fmt: skip
    outcomes = [
        submit(tight, p, max_tokens=60, ignore_eos=True, sampling=s)[1] for p, s in zip(prompts, sampling, strict=True)
    ]
    assert [o.wait().tokens for o in outcomes] == alone
    assert sum(o.finish.timings.n_preemptions for o in outcomes) > 0


def test_request_is_the_same_alone_and_in_company(make_engine: EngineFactory) -> None:
    engine = make_engine(kv_type=STEADY_KV)
    prompt, mine = prompt_of(30, 50), SamplingParams(seed=7, temperature=0.9)
    alone = generate(engine, prompt, max_tokens=40, sampling=mine, cache_prompt=False).tokens
    others = [
        SamplingParams(seed=1, logit_bias={65: 5.0}),
        SamplingParams(seed=2, repeat_penalty=1.3, frequency_penalty=0.5),
        SamplingParams(seed=3, dry_multiplier=0.8),
        SamplingParams(seed=4, xtc_probability=0.5),
        SamplingParams(seed=5, mirostat=2),
        SamplingParams(seed=6, typical_p=0.7, top_n_sigma=1.0),
        GREEDY,
    ]
    company = [
        submit(engine, prompt_of(40 + i, 30 + 10 * i), max_tokens=60, sampling=s, ignore_eos=True)[1]
        for i, s in enumerate(others)
    ]
    among = generate(engine, prompt, max_tokens=40, sampling=mine, cache_prompt=False).tokens
    for outcome in company:
        outcome.wait()
    assert among == alone


def test_stop_condition_ends_the_request(engine: Engine) -> None:
    outcome = generate(engine, prompt_of(57, 20), stop=StopAfter(4), ignore_eos=True)
    assert len(outcome.tokens) == 4
    assert (outcome.finish.reason, outcome.finish.cause) == ("stop", "stop_string")


def test_failing_sink_cancels_its_request_only(engine: Engine) -> None:
    def sink(event: object) -> None:
        raise RuntimeError("sink")

    engine.submit(GenerationRequest(prompt=tuple(prompt_of(58, 10)), sampling=GREEDY, ignore_eos=True), sink)
    assert len(generate(engine, prompt_of(59, 10), max_tokens=20, ignore_eos=True).tokens) == 20
    wait_until(lambda: engine.stats().n_running == 0)


def test_close_cancels_what_runs_and_refuses_more(engine: Engine) -> None:
    _, outcome = submit(engine, prompt_of(60, 20), ignore_eos=True)
    outcome.wait_for_token()
    engine.close()
    engine.close()
    assert outcome.wait().finish.reason == "cancelled"
    with pytest.raises(EngineClosed):
        submit(engine, prompt_of(61, 5))


@pytest.mark.parametrize("kv_type", [kind for kind in KV_TYPES if kind != "f16"])
def test_kv_types_work_with_batching_and_prefix_reuse(make_engine: EngineFactory, kv_type: str) -> None:
    engine = make_engine(kv_type=kv_type)
    prompt = prompt_of(62, 200)
    alone = generate(engine, prompt, max_tokens=20).tokens
    company = [submit(engine, prompt_of(70 + i, 40), max_tokens=30, ignore_eos=True)[1] for i in range(3)]
    assert generate(engine, prompt, max_tokens=20).tokens == alone
    for outcome in company:
        outcome.wait()


def test_random_requests_with_cancels_leak_nothing(make_engine: EngineFactory) -> None:
    engine = make_engine(n_ctx=768, max_host_cache_bytes=1 << 20)
    rng = random.Random(0)
    samplers_before = SamplerChain.n_alive
    prefixes = [prompt_of(300 + i, 60) for i in range(4)]
    done: list[tuple[int, Outcome]] = []
    for i in range(1000):
        prompt = [*rng.choice(prefixes)[: rng.randint(0, 60)], *prompt_of(1000 + i, rng.randint(1, 40))]
        sampling = rng.choice([GREEDY, SamplingParams(seed=i), SamplingParams(seed=i, dry_multiplier=0.8)])
        done.append(submit(engine, prompt, max_tokens=rng.randint(1, 12), sampling=sampling, ignore_eos=True,
                           cache_prompt=rng.random() < 0.9))  # fmt: skip
        if rng.random() < 0.3:
            engine.cancel(rng.choice(done)[0])
    reasons = [outcome.wait().finish.reason for _, outcome in done]
    assert set(reasons) == {"length", "cancelled"}
    engine.clear_cache()
    generate(engine, [1], max_tokens=1, cache_prompt=False)
    stats = engine.stats()
    assert stats.n_cells_used == stats.n_cells_idle == stats.n_sequence_ids_used == stats.host_cache_bytes == 0
    assert stats.n_samplers == samplers_before
    assert stats.n_cells_used_max <= stats.n_cells == 768
    assert engine._context.memory.last_position(0) == -1


def test_many_threads_may_submit_at_once(engine: Engine) -> None:
    results: dict[int, list[int]] = {}

    def work(i: int) -> None:
        results[i] = generate(engine, prompt_of(400 + i, 30), max_tokens=10, ignore_eos=True).tokens

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == list(range(16))
    assert all(len(t) == 10 for t in results.values())
