"""Lookahead: what only it does."""

from __future__ import annotations

import random

import pytest

from localllm.engine import Engine
from localllm.engine.speculation.lookahead import LookaheadSize, LookaheadStep
from localllm.hardware.types import N_BRANCH_IDS, N_SEQ_LIMIT, n_branch_ids, n_output_rows, n_sequence_ids
from localllm.llama import Batch, Context, ContextParams, Model
from tests.engine.drafting import accepted, both, check_same, drafted, repeating
from tests.engine.driving import STEADY_KV, EngineFactory, generate, prompt_of


@pytest.fixture
def steady(make_engine: EngineFactory) -> Engine:
    return make_engine(kv_type=STEADY_KV)


@pytest.mark.parametrize("n_prompt", [1, 2, 3])
def test_prompts_of_few_tokens_have_windows_too(steady: Engine, n_prompt: int) -> None:
    off, on = both(steady, prompt_of(80, n_prompt), "lookahead")
    check_same(off, on)


@pytest.mark.parametrize("policy", ["shift", "sinks"])
def test_a_context_that_slides_goes_on_with_the_same_tokens(make_engine: EngineFactory, policy: str) -> None:
    engine = make_engine(n_ctx=256, kv_type="f32")
    off, on = both(engine, repeating(51, 30), "lookahead", max_tokens=300, context_policy=policy)
    check_same(off, on)
    assert on.finish.usage.evicted_tokens == off.finish.usage.evicted_tokens > 0
    assert accepted(on) > 0
    assert engine.stats().n_cells_used == 0


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
