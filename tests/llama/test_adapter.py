"""LoRA adapters, built here."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import ModelLoadFailed
from localllm.llama import LoraAdapter, Model
from tests.llama.conftest import MakeContext
from tests.llama.running import feed


def write_adapter(
    path: Path, *, arch: str = "llama", n_embd: int = 64, n_q: int = 64, rank: int = 4, alpha: float = 8.0
) -> Path:
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for layer in range(2):
        for half, shape in (("lora_a", (rank, n_embd)), ("lora_b", (n_q, rank))):
            weight = rng.standard_normal(shape) / np.sqrt(shape[-1])
            writer.add_tensor(f"blk.{layer}.attn_q.weight.{half}", weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_adapter_works_by_its_scale_and_goes_without_a_trace(
    model: Model, make_context: MakeContext, tmp_path: Path
) -> None:
    context = make_context()
    plain = feed(context)

    def logits_with(*adapters: tuple[LoraAdapter, float]) -> np.ndarray:
        context.set_adapters(adapters)
        context.memory.clear()
        return feed(context)

    with LoraAdapter(model, write_adapter(tmp_path / "lora.gguf")) as adapter:
        half, full = logits_with((adapter, 0.5)), logits_with((adapter, 1.0))
        assert np.abs(full - plain).max() > 0.05
        assert not np.array_equal(half, full)
        np.testing.assert_array_equal(logits_with((adapter, 0.0)), plain)
        np.testing.assert_array_equal(logits_with((adapter, 1.0)), full)
        np.testing.assert_array_equal(logits_with(), plain)


def test_use_after_close_raises(model: Model, make_context: MakeContext, tmp_path: Path) -> None:
    adapter = LoraAdapter(model, write_adapter(tmp_path / "lora.gguf"))
    adapter.close()
    adapter.close()
    with pytest.raises(RuntimeError, match="closed"):
        make_context().set_adapters([(adapter, 1.0)])


@pytest.mark.parametrize(
    "wrong", [{"arch": "qwen2"}, {"n_embd": 32}, {"n_q": 128}], ids=["architecture", "width", "rows"]
)
def test_adapter_of_another_model_is_refused_with_the_reason(
    model: Model, tmp_path: Path, wrong: dict[str, int]
) -> None:
    path = write_adapter(tmp_path / "lora.gguf", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelLoadFailed, match=r"no adapter for this model: (?!no reason).+"):
        LoraAdapter(model, path)


def test_a_model_is_no_adapter(model: Model, tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="no adapter"):
        LoraAdapter(model, tiny_path)
    with pytest.raises(ModelLoadFailed, match="no adapter"):
        LoraAdapter(model, tmp_path / "none.gguf")
