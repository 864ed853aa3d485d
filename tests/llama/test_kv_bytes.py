"""The planner's KV bytes against what llama.cpp says it allocated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.gguf import ModelShape, read_header
from localllm.hardware.estimate import kv_layer_bytes
from localllm.hardware.kv_types import KV_TYPES
from localllm.llama import Context, ContextParams, Model
from tests.tiny_model import write_tiny_model

N_CTX = 65_536
"""So many cells that one byte of a cell more is seen through the log's rounding to 0.01 MiB."""
ROUNDING_BYTES = 0.005 * 1024**2 + 1

UNQUANTIZED = ("f32", "f16", "bf16")


@pytest.fixture(scope="module", params=[32, 40, 96], ids="head_dim_{}".format)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """Heads of one block, of one and a quarter, and of three."""
    path = tmp_path_factory.mktemp("kv") / "tiny.gguf"
    with Model(write_tiny_model(path, head_dim=request.param, n_head_kv=2)) as model:
        yield model


def predicted_and_allocated(model: Model, type_k: str, type_v: str, n_ctx: int = N_CTX) -> tuple[int, int]:
    shape = ModelShape.from_header(read_header(model.path))
    params = ContextParams(n_ctx=n_ctx, n_ubatch=16, n_threads=1, kv_type_k=type_k, kv_type_v=type_v)
    with Context(model, params) as context:
        allocated = context.kv_allocated_bytes
    return sum(kv_layer_bytes(shape, KV_TYPES[type_k], KV_TYPES[type_v], n_ctx)), allocated


def can_hold(model: Model, kind: str) -> bool:
    return kind in UNQUANTIZED or ModelShape.from_header(read_header(model.path)).head_dim_k % 32 == 0


@pytest.mark.parametrize("kind", KV_TYPES)
def test_every_type_takes_what_was_planned_for_k_and_for_v(model: Model, kind: str) -> None:
    if not can_hold(model, kind):
        pytest.skip("refused by check_kv_type")
    for types in ((kind, "f16"), ("f16", kind), (kind, kind)):
        predicted, allocated = predicted_and_allocated(model, *types)
        assert allocated == pytest.approx(predicted, abs=ROUNDING_BYTES), types
        assert predicted > 1000 * ROUNDING_BYTES


def test_cells_are_padded_as_planned(model: Model) -> None:
    predicted, allocated = predicted_and_allocated(model, "f16", "f16", N_CTX + 1)
    assert allocated == pytest.approx(predicted, abs=ROUNDING_BYTES)
    assert predicted > predicted_and_allocated(model, "f16", "f16")[0]


def test_layers_with_sliding_windows_take_what_was_planned(tmp_path: Path) -> None:
    window = {"gemma3.attention.sliding_window": 128}
    path = write_tiny_model(tmp_path / "swa.gguf", arch="gemma3", head_dim=64, n_layer=7, extra=window)
    with Model(path) as model:
        predicted, allocated = predicted_and_allocated(model, "q8_0", "f16")
    # llama.cpp logs the layers with windows and those without apart, and rounds each.
    assert allocated == pytest.approx(predicted, abs=2 * ROUNDING_BYTES)
