"""The tiny model is deterministic, and its greedy text varies."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from tests.tiny_model import vocabulary, write_tiny_model


def greedy(path: Path, prompt: list[int], n_tokens: int, kv_type: int) -> list[int]:
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.type_k, params.type_v = 256, kv_type, kv_type
    context = llama_cpp.llama_init_from_model(model, params)
    out: list[int] = []
    step = prompt
    for _ in range(n_tokens):
        tokens = (ctypes.c_int32 * len(step))(*step)
        assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(step))) == 0
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(len(vocabulary()),))
        step = [int(logits.argmax())]
        out += step
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return out


def test_same_seed_gives_same_bytes(tmp_path: Path) -> None:
    first = write_tiny_model(tmp_path / "a.gguf", seed=3).read_bytes()
    assert first == write_tiny_model(tmp_path / "b.gguf", seed=3).read_bytes()
    assert first != write_tiny_model(tmp_path / "c.gguf", seed=4).read_bytes()


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
@pytest.mark.parametrize("kv_type", [llama_cpp.GGML_TYPE_F16, llama_cpp.GGML_TYPE_Q8_0])
def test_llama_cpp_decodes_it_and_greedy_text_varies(tmp_path: Path, arch: str, kv_type: int) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", arch=arch)
    first = greedy(path, [39, 72], 30, kv_type)
    assert len(set(first)) > 10
    assert first == greedy(path, [39, 72], 30, kv_type)
    assert first != greedy(path, [39, 73], 30, kv_type)
