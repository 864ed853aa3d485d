"""Names of files, as people publish them."""

from __future__ import annotations

import pytest

from localllm.hub.file_names import Shard, is_model, quantization_of, shard_of


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("llama-2-7b.Q5_K_S.gguf", "Q5_K_S"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("gemma-3-4b-it-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("model-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model.IQ4_NL.gguf", "IQ4_NL"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("x-BF16.gguf", "BF16"),
        ("TriLM_3.9B-TQ1_0.gguf", "TQ1_0"),
        ("big-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"),
        ("Q8_0/big-00001-of-00003.gguf", "Q8_0"),
        ("QwQ-32B.gguf", None),
        ("Q2-model-name-Q6_K.gguf", "Q6_K"),
        ("plain.gguf", None),
    ],
)
def test_the_quantization_is_found(name: str, quantization: str | None) -> None:
    assert quantization_of(name) == quantization


def test_parts_of_a_split_model_are_known() -> None:
    assert shard_of("a/big-Q4_K_M-00002-of-00003.gguf") == Shard("a/big-Q4_K_M", 2, 3)
    assert shard_of("big-Q4_K_M.gguf") is None


def test_projectors_and_importance_matrices_are_no_models() -> None:
    assert is_model("a/x.gguf")
    assert is_model("imatrixed-x.gguf")
    assert not is_model("a/mmproj-model-f16.gguf")
    assert not is_model("x.imatrix.gguf")
    assert not is_model("mtp-gemma-4-E4B-it.gguf")
    assert not is_model("a/eagle3-qwen3-8b-Q8_0.gguf")
    assert not is_model("x.safetensors")
