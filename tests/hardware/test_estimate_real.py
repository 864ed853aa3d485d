"""Holds the estimates against what llama.cpp itself says it allocated for the demo model."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from localllm.errors import ModelNotFound
from localllm.hardware.estimate import compute_buffer_bytes, kv_layer_bytes, output_buffer_bytes
from localllm.hardware.kv_types import KV_TYPES
from localllm.store import demo_model
from tests.hardware.shapes import SMOLLM2

pytestmark = pytest.mark.real
MIB = 1024**2
Reported = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def reported() -> Iterator[Reported]:
    """Returns a function that makes a context and returns the MiB of its buffers, from llama.cpp's log."""
    try:
        path = demo_model()
    except ModelNotFound:
        pytest.skip("the demo extra is not installed")
    llama: Any = pytest.importorskip("llama_cpp")
    lines: list[str] = []
    callback = llama.llama_log_callback(lambda level, text, data: lines.append(text.decode(errors="replace")))
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    params = llama.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(str(path).encode(), params)
    assert model

    def context(**values: Any) -> dict[str, float]:
        params = llama.llama_context_default_params()
        for name, value in values.items():
            setattr(params, name, value)
        params.kv_unified = True
        lines.clear()
        made = llama.llama_init_from_model(model, params)
        assert made, "".join(lines)
        llama.llama_free(made)
        found = re.findall(r"(compute|output|KV) buffer size =\s*([\d.]+) MiB", "".join(lines))
        return {name: float(mib) for name, mib in found}

    yield context
    llama.llama_model_free(model)
    # llama.cpp would go on calling the callback after it is gone; a null pointer restores its own.
    llama.llama_log_set(ctypes.cast(None, llama.llama_log_callback), ctypes.c_void_p(0))


@pytest.mark.parametrize("flash", [0, 1])
@pytest.mark.parametrize(
    "config", [(256, 32, 1), (1000, 512, 4), (4096, 512, 256), (8192, 100, 3), (4096, 2048, 4)]
)
def test_estimates_bound_what_llama_cpp_allocates(
    reported: Reported, flash: int, config: tuple[int, int, int]
) -> None:
    n_ctx, n_ubatch, n_seq_max = config
    found = SimpleNamespace(
        **reported(n_ctx=n_ctx, n_batch=2048, n_ubatch=n_ubatch, n_seq_max=n_seq_max, flash_attn_type=flash)
    )
    estimate = compute_buffer_bytes(
        SMOLLM2, n_ctx, n_ubatch, n_seq_max=n_seq_max, flash_attention=bool(flash)
    )
    assert found.compute * MIB <= estimate <= 1.5 * found.compute * MIB + 32 * MIB
    kv_bytes = sum(kv_layer_bytes(SMOLLM2, KV_TYPES["f16"], KV_TYPES["f16"], n_ctx))
    assert kv_bytes == pytest.approx(found.KV * MIB, abs=0.01 * MIB)
    assert output_buffer_bytes(SMOLLM2, n_seq_max) == pytest.approx(found.output * MIB, abs=0.01 * MIB)
