"""Holds the estimates against what llama.cpp itself says it allocated for the demo model."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from localllm.errors import ModelNotFound
from localllm.hardware.estimate import compute_buffer_bytes, kv_layer_bytes, output_buffer_bytes
from localllm.hardware.kv_types import KV_TYPES
from localllm.llama import Model
from localllm.llama.library import library
from localllm.store import demo_model
from tests.hardware.shapes import SMOLLM2

pytestmark = pytest.mark.real
MIB = 1024**2
Reported = Callable[..., dict[str, float]]


class Lines(logging.Handler):
    """Keeps what llama.cpp logs."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def reported() -> Iterator[Reported]:
    """Returns a function that makes a context and returns the MiB of its buffers, from llama.cpp's log."""
    try:
        path = demo_model()
    except ModelNotFound:
        pytest.skip("the demo extra is not installed")
    logger, said = logging.getLogger("localllm.llama"), Lines()
    logger.addHandler(said)
    logger.setLevel(logging.DEBUG)
    lib = library()
    with Model(path) as model:

        def context(**values: Any) -> dict[str, float]:
            params = lib.llama_context_default_params()
            for name, value in values.items():
                setattr(params, name, value)
            params.kv_unified = True
            said.lines.clear()
            made = lib.llama_init_from_model(model.handle, params)
            assert made, said.lines
            lib.llama_free(made)
            found = re.findall(r"(compute|output|KV) buffer size =\s*([\d.]+) MiB", "\n".join(said.lines))
            return {name: float(mib) for name, mib in found}

        yield context
    logger.removeHandler(said)
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("n_seq_max", [1, 20, 256])
def test_few_outputs_make_the_compute_buffer_small(reported: Reported, n_seq_max: int) -> None:
    found = reported(n_ctx=8192, n_batch=2048, n_ubatch=512, n_seq_max=n_seq_max, n_outputs_max=n_seq_max)
    estimate = compute_buffer_bytes(SMOLLM2, 8192, 512, n_seq_max=n_seq_max, n_outputs=n_seq_max)
    assert found["compute"] * MIB <= estimate <= 1.5 * found["compute"] * MIB + 32 * MIB


@pytest.mark.parametrize("flash", [0, 1])
@pytest.mark.parametrize("config", [(256, 32, 1), (1000, 512, 4), (4096, 512, 256), (8192, 100, 3), (4096, 2048, 4)])
def test_estimates_bound_what_llama_cpp_allocates(reported: Reported, flash: int, config: tuple[int, int, int]) -> None:
    n_ctx, n_ubatch, n_seq_max = config
    found = SimpleNamespace(
        **reported(n_ctx=n_ctx, n_batch=2048, n_ubatch=n_ubatch, n_seq_max=n_seq_max, flash_attn_type=flash)
    )
    estimate = compute_buffer_bytes(SMOLLM2, n_ctx, n_ubatch, n_seq_max=n_seq_max, flash_attention=bool(flash))
    assert found.compute * MIB <= estimate <= 1.5 * found.compute * MIB + 32 * MIB
    kv_bytes = sum(kv_layer_bytes(SMOLLM2, KV_TYPES["f16"], KV_TYPES["f16"], n_ctx))
    assert kv_bytes == pytest.approx(found.KV * MIB, abs=0.01 * MIB)
    assert output_buffer_bytes(SMOLLM2, n_seq_max) == pytest.approx(found.output * MIB, abs=0.01 * MIB)
