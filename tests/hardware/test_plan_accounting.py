"""Plans of tiny models against what llama.cpp allocates for them, in the engine's own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.engine.engine import context_params
from localllm.hardware import LoadOptions
from localllm.llama import Context, Model
from localllm.runtime.loading import plan_model
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.tiny_model import write_tiny_model
from tests.tiny_recurrent import write_tiny_recurrent

WINDOW = {"gemma3.attention.sliding_window": 128}


def written(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.gguf"
    if kind == "experts":
        return write_tiny_moe(path, n_embd=64, n_ff=128)
    if kind == "recurrent":
        return write_tiny_recurrent(path)
    if kind == "window":
        return write_tiny_model(path, arch="gemma3", extra=WINDOW, n_layer=6, n_ctx=8192)
    return write_tiny_model(path, n_embd=256, n_head=16, head_dim=128, n_ff=256, n_layer=3)


@pytest.mark.parametrize(("n_ctx", "n_slots"), [(512, 1), (4096, 4), (8192, 16)])
@pytest.mark.parametrize("kind", ["experts", "recurrent", "window", "wide heads"])
def test_a_plan_is_within_five_percent(kind: str, n_ctx: int, n_slots: int, tmp_path: Path) -> None:
    path = written(kind, tmp_path)
    _, plan = plan_model(path, LoadOptions(n_ctx=n_ctx, n_slots=n_slots, n_threads=1, gpu_layers=0))
    with Model(path) as model, Context(model, context_params(plan, can_roll_back=model.can_roll_back)) as context:
        allocated = sum(buffer.n_bytes for buffer in (*model.buffers, *context.buffers))
    assert plan.estimate.allocated_bytes == pytest.approx(allocated, rel=0.05)
