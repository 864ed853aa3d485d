"""LoRA adapters, built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.errors import ModelLoadFailed
from localllm.llama import LoraAdapter, Model
from tests.llama.conftest import MakeContext
from tests.llama.running import feed
from tests.tiny_adapter import matrices, write_tiny_adapter


def test_adapter_works_by_its_scale_and_goes_without_a_trace(
    model: Model, make_context: MakeContext, tmp_path: Path
) -> None:
    context = make_context()
    plain = feed(context)

    def logits_with(*adapters: tuple[LoraAdapter, float]) -> np.ndarray:
        context.set_adapters(adapters)
        context.memory.clear()
        return feed(context)

    with LoraAdapter(model, write_tiny_adapter(tmp_path / "lora.gguf")) as adapter:
        half, full = logits_with((adapter, 0.5)), logits_with((adapter, 1.0))
        assert np.abs(full - plain).max() > 0.05
        assert not np.array_equal(half, full)
        np.testing.assert_array_equal(logits_with((adapter, 0.0)), plain)
        np.testing.assert_array_equal(logits_with((adapter, 1.0)), full)
        np.testing.assert_array_equal(logits_with(), plain)


def test_use_after_close_raises(model: Model, make_context: MakeContext, tmp_path: Path) -> None:
    adapter = LoraAdapter(model, write_tiny_adapter(tmp_path / "lora.gguf"))
    adapter.close()
    adapter.close()
    with pytest.raises(RuntimeError, match="closed"):
        make_context().set_adapters([(adapter, 1.0)])


@pytest.mark.parametrize(
    "wrong",
    [{"arch": "qwen2"}, {"shapes": matrices(n_embd=32)}, {"shapes": matrices(n_q=128)}],
    ids=["architecture", "width", "rows"],
)
def test_adapter_of_another_model_is_refused_with_the_reason(
    model: Model, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    path = write_tiny_adapter(tmp_path / "lora.gguf", **wrong)
    with pytest.raises(ModelLoadFailed, match=r"no adapter for this model: (?!no reason).+"):
        LoraAdapter(model, path)


def test_a_model_is_no_adapter(model: Model, tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="no adapter"):
        LoraAdapter(model, tiny_path)
    with pytest.raises(ModelLoadFailed, match="no adapter"):
        LoraAdapter(model, tmp_path / "none.gguf")
