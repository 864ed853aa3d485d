"""Which models may slide, and that a window never holds more than it should, nor anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.engine import Engine, GenerationRequest
from localllm.engine.context_policy import MIN_WINDOW, Policies, Window, why_not
from localllm.engine.sampling import Greedy
from localllm.engine.sequence import Sequence
from localllm.errors import ContextLengthExceeded, RequestError
from localllm.llama import Batch, Context, ContextParams, Model, ShiftFacts, shift_facts
from tests.engine.driving import EngineFactory, prompt_of, submit
from tests.tiny_model import write_tiny_model

PLAIN = ShiftFacts(architecture="llama", can_roll_back=True, memory_can_shift=True)
YARN = {
    "llama.rope.scaling.type": "yarn",
    "llama.rope.scaling.factor": 8.0,
    "llama.rope.scaling.original_context_length": 64,
}


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"can_roll_back": False, "architecture": "mamba"}, "recurrent"),
        ({"architecture": "gpt2", "rope": "none"}, "learned a vector"),
        ({"architecture": "starcoder"}, "learned a vector"),
        ({"architecture": "qwen2vl", "rope": "multi", "memory_can_shift": False}, "M-RoPE"),
        ({"architecture": "step35", "memory_can_shift": False}, "cannot shift"),
        ({"architecture": "baichuan", "n_layer": 40}, "ALiBi"),
        ({"architecture": "deepseek32", "has_indexer": True}, "sparse attention"),
        ({"scales_keys": True}, "YaRN"),
        ({"kv_type_k": "bf16"}, "bf16"),
        ({"kv_type_k": "q8_0", "head_dim_k": 80, "n_rot": 80}, "80 values a head"),
        ({"kv_type_k": "q4_0", "head_dim_k": 512, "head_dim_k_swa": 256, "n_rot": 512}, "256 and 512 values"),
        ({"kv_type_k": "q8_0", "head_dim_k": 128, "head_dim_k_swa": 128, "n_rot": 64}, "only 64 of the 128"),
    ],
)
def test_model_that_cannot_slide_is_refused_by_name(facts: dict[str, object], reason: str) -> None:
    found = replace(PLAIN, **facts)  # type: ignore[arg-type]
    request = GenerationRequest(prompt=(1, 2), context_policy="sinks")
    with pytest.raises(RequestError, match=reason) as caught:
        Policies(why_not(found), found.architecture, 256, None).window(request)
    assert found.architecture in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"architecture": "bloom", "rope": "none", "kv_type_k": "bf16"},
        {"architecture": "baichuan", "n_layer": 32},
        {"kv_type_k": "q8_0", "head_dim_k": 128, "head_dim_k_swa": 128, "n_rot": 128},
        {"kv_type_k": "q4_0", "head_dim_k": 192, "head_dim_k_swa": 192, "n_rot": 64},
        {"head_dim_k": 80, "n_rot": 32},
    ],
)
def test_model_that_can_slide_is_not_refused(facts: dict[str, object]) -> None:
    assert why_not(replace(PLAIN, **facts)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "kv_type", "reason"),
    [
        ({}, "f16", None),
        ({"n_embd": 128}, "q4_0", None),
        ({}, "q8_0", "32 values a head"),
        ({}, "bf16", "bf16"),
        ({"extra": YARN}, "f16", "YaRN"),
        ({"extra": {"llama.rope.scaling.attn_factor": 1.19}}, "f16", "LongRoPE"),
        ({"extra": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 8.0}}, "f16", None),
        (
            {"arch": "qwen2vl", "extra": {"qwen2vl.rope.dimension_sections": [4, 6, 6, 0]}},
            "f16",
            "M-RoPE",
        ),
    ],
)
def test_engine_refuses_what_the_model_cannot_do_before_anything_is_computed(
    make_engine: EngineFactory, tmp_path: Path, model: dict[str, object], kv_type: str, reason: str | None
) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", **model)  # type: ignore[arg-type]
    with Model(path) as loaded:
        engine: Engine = make_engine(model=loaded, n_ctx=256, kv_type=kv_type)
        if reason is None:
            submit(engine, prompt_of(1, 600), context_policy="sinks", max_tokens=2)[1].wait()
            assert engine.stats().n_tokens_evicted > 0
        else:
            with pytest.raises(RequestError, match=reason):
                submit(engine, prompt_of(1, 10), context_policy="shift")
            assert engine.stats().n_requests == 0
        engine.close()


@pytest.mark.parametrize(("extra", "is_spoilt"), [({}, False), (YARN, True)])
def test_yarn_is_refused_because_a_slide_spoils_even_cells_that_do_not_move(
    tmp_path: Path, extra: dict[str, object], is_spoilt: bool
) -> None:
    """llama.cpp passes the rotation's magnitude when it moves keys, and it rotates all cells, most of them by 0."""
    path = write_tiny_model(tmp_path / "model.gguf", extra=extra)  # type: ignore[arg-type]
    with Model(path) as model, Context(model, ContextParams(n_ctx=256, n_seq_max=2, n_threads=1)) as context:
        assert shift_facts(model, context, "f16").scales_keys == is_spoilt
        batch = Batch(256)
        for seq_id in (0, 1):
            batch.add_run(range(1, 50), 0, seq_id, last_wants_logits=True)
        assert context.decode(batch) == 0
        before = context.save_sequence(1)
        context.memory.remove(0, 4, 20)
        context.memory.shift(0, 20, -1, -16)
        batch.clear()
        batch.add(50, 33, 0, wants_logits=True)
        assert context.decode(batch) == 0
        assert (bytes(before) != bytes(context.save_sequence(1))) == is_spoilt


@given(
    n_ctx=st.integers(MIN_WINDOW, 300),
    data=st.data(),
    n_prompt=st.integers(1, 2000),
    chunks=st.lists(st.integers(1, 200), min_size=1, max_size=20),
)
def test_window_holds_the_head_and_the_newest_tokens_and_never_more_than_the_context(
    n_ctx: int, data: st.DataObject, n_prompt: int, chunks: list[int]
) -> None:
    """Against a list of the tokens in the cells; chunks are as long as a step happens to have room for."""
    window = Window(data.draw(st.integers(0, n_ctx - MIN_WINDOW)), n_ctx)
    request = GenerationRequest(prompt=tuple(range(n_prompt)))
    sequence = Sequence(1, request, lambda event: None, Greedy(), None, None, 0.0, (), window)
    cells: list[int] = []
    for step in range(10_000):
        if not sequence.n_pending:
            break
        n = min(chunks[step % len(chunks)], sequence.n_fitting)
        n_gone = sequence.n_to_evict(n)
        assert n >= 1 and (n_gone == 0 or len(cells) == n_ctx)
        del cells[window.n_head : window.n_head + n_gone]
        sequence.n_evicted += n_gone
        cells += sequence.tokens[sequence.n_past : sequence.n_past + n]
        sequence.n_past += n
        assert sequence.n_cells == len(cells) <= n_ctx
        assert cells[: window.n_head] == sequence.tokens[: sequence.n_past][: window.n_head]
        n_newest = len(cells) - window.n_head
        assert n_newest <= 0 or cells[window.n_head :] == sequence.tokens[: sequence.n_past][-n_newest:]
        assert n_newest >= min(sequence.n_past - window.n_head, 3 * (n_ctx - window.n_head) // 4)
    assert sequence.n_past == n_prompt == len(cells) + sequence.usage.evicted_tokens


def test_whole_prompt_cannot_be_the_head_where_it_fills_the_context() -> None:
    request = GenerationRequest(prompt=tuple(range(250)), context_policy="shift", n_keep=-1)
    with pytest.raises(ContextLengthExceeded, match=r"first 250 tokens.*256"):
        Policies(None, "llama", 256, None).window(request)
