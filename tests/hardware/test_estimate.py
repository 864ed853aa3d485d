from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.errors import RequestError
from localllm.hardware.estimate import compute_buffer_bytes, kv_layer_bytes, output_buffer_bytes, padded_n_ctx
from localllm.hardware.kv_types import KV_TYPES, check_kv_type, kv_type
from tests.hardware.shapes import QWEN25_1_5B, SMOLLM2, Shape

MIB = 1024**2
SHAPES = {"smollm2": SMOLLM2, "qwen2.5-1.5b": QWEN25_1_5B}

# Model, flash attention, n_ctx, n_ubatch, n_seq_max, and the MiB that llama-cpp-python 0.3.36's log reports.
REPORTED = [
    ("smollm2", False, 256, 32, 4, 6.14),
    ("smollm2", False, 2048, 512, 4, 99.38),
    ("smollm2", False, 8192, 512, 4, 166.38),
    ("smollm2", False, 32768, 1, 4, 5.05),
    ("smollm2", False, 32768, 2048, 4, 2585.54),
    ("smollm2", True, 2048, 512, 4, 102.51),
    ("smollm2", True, 8192, 512, 4, 98.25),
    ("smollm2", True, 131072, 512, 4, 141.51),
    ("smollm2", True, 512, 32, 256, 49.13),
    ("smollm2", True, 16384, 100, 256, 49.69),
    ("qwen2.5-1.5b", False, 2048, 512, 4, 302.75),
    ("qwen2.5-1.5b", False, 16384, 512, 4, 432.01),
    ("qwen2.5-1.5b", False, 32768, 512, 4, 848.01),
    ("qwen2.5-1.5b", True, 2048, 1, 4, 2.37),
    ("qwen2.5-1.5b", True, 2048, 2048, 4, 1211.01),
    ("qwen2.5-1.5b", True, 131072, 512, 4, 302.75),
    ("qwen2.5-1.5b", True, 16384, 512, 3, 305.76),
    ("qwen2.5-1.5b", True, 16384, 512, 256, 302.75),
]


@pytest.mark.parametrize(("model", "flash", "n_ctx", "n_ubatch", "n_seq_max", "mib"), REPORTED)
def test_compute_buffer_is_bounded_closely(
    model: str, flash: bool, n_ctx: int, n_ubatch: int, n_seq_max: int, mib: float
) -> None:
    estimate = compute_buffer_bytes(SHAPES[model], n_ctx, n_ubatch, n_seq_max=n_seq_max, flash_attention=flash)
    assert mib * MIB <= estimate <= 1.15 * mib * MIB + 4 * MIB


@pytest.mark.parametrize(
    ("model", "name", "n_ctx", "mib"),
    [
        ("smollm2", "f16", 8192, 180.0),
        ("smollm2", "q8_0", 32768, 382.5),
        ("smollm2", "q4_0", 16384, 101.25),
        ("qwen2.5-1.5b", "f16", 2048, 56.0),
        ("qwen2.5-1.5b", "q8_0", 8192, 119.0),
        ("qwen2.5-1.5b", "q4_0", 16384, 126.0),
    ],
)
def test_kv_bytes_are_llama_cpps(model: str, name: str, n_ctx: int, mib: float) -> None:
    kind = KV_TYPES[name]
    assert sum(kv_layer_bytes(SHAPES[model], kind, kind, n_ctx)) == mib * MIB


def test_output_buffer_is_llama_cpps() -> None:
    assert output_buffer_bytes(SMOLLM2, 256) == 48 * MIB


def test_context_is_padded_to_256() -> None:
    assert [padded_n_ctx(n) for n in (1, 256, 257, 8192)] == [256, 256, 512, 8192]


def test_layers_without_attention_have_no_kv() -> None:
    shape = replace(SMOLLM2, n_head_kv=[0, 3] * 15)
    layers = kv_layer_bytes(shape, KV_TYPES["f16"], KV_TYPES["f16"], 256)
    assert layers[0] == 0 and layers[1] > 0


def test_without_flash_attention_every_v_is_as_wide_as_the_widest() -> None:
    shape = Shape(architecture="grok", n_layer=2, n_head_kv=[2, 8], layer_bytes=[1, 1])
    narrow, wide = kv_layer_bytes(shape, KV_TYPES["f16"], KV_TYPES["f16"], 256)
    assert (narrow, wide) == (256 * 2 * 128 * (2 + 8), 256 * 2 * 128 * (8 + 8))


def test_kv_type_sizes_are_ggmls() -> None:
    gguf = pytest.importorskip("gguf")
    for name, kind in KV_TYPES.items():
        quant = gguf.GGMLQuantizationType[name.upper()]
        assert gguf.GGML_QUANT_SIZES[quant] == (kind.block_size, kind.block_bytes), name


def test_unknown_kv_type_lists_the_allowed() -> None:
    with pytest.raises(RequestError, match=r"Did you mean q8_0\?") as caught:
        kv_type("Q8")
    assert caught.value.hint is not None and all(name in caught.value.hint for name in KV_TYPES)


def test_quantized_heads_must_be_whole_blocks() -> None:
    with pytest.raises(RequestError, match=r"K cannot be kept as q8_0: .* 32 values, .* have 80"):
        check_kv_type(KV_TYPES["q8_0"], "K", 80, flash_attention=True)
    check_kv_type(KV_TYPES["f16"], "K", 80, flash_attention=True)
    check_kv_type(KV_TYPES["q8_0"], "K", 96, flash_attention=True)


def test_quantized_v_needs_flash_attention_and_k_does_not() -> None:
    with pytest.raises(RequestError, match="flash attention"):
        check_kv_type(KV_TYPES["q8_0"], "V", 128, flash_attention=False)
    check_kv_type(KV_TYPES["q8_0"], "K", 128, flash_attention=False)
