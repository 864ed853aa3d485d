"""SmolLM2, quantized: llama.cpp's own file byte for byte, and it still answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import localllm
from localllm.gguf import read_header
from localllm.quantize import FILE_TYPE_NAMES, file_type, plan_mix
from localllm.quantize.categories import may_be_quantized
from tests.demo_model import require_demo_model
from tests.quantize.peer import Wanted

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def source() -> Path:
    return require_demo_model()


def importance(source: Path) -> dict[str, np.ndarray]:
    """A random importance, over four orders of magnitude as real ones are."""
    rng = np.random.default_rng(0)
    header = read_header(source)
    return {
        tensor.name: np.exp(2 * rng.standard_normal(tensor.shape[0])).astype(np.float32)
        for tensor in header.tensors
        if tensor.name.startswith("blk.") and may_be_quantized(tensor, header.architecture)
    }


@pytest.mark.slow
@pytest.mark.parametrize("type_name", FILE_TYPE_NAMES)
@pytest.mark.parametrize("weighted", [True, False])
def test_files_are_llama_cpps(source: Path, tmp_path: Path, type_name: str, weighted: bool) -> None:
    if type_name == "Q2_K_S" and not weighted:
        pytest.skip("it needs an importance matrix")
    wanted = Wanted(type_name, importance(source) if weighted else {})
    theirs = wanted.by_llama_cpp(source, tmp_path / "theirs.gguf")
    ours = wanted.by_us(source, tmp_path / "ours.gguf")
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_quantized_model_answers(source: Path, tmp_path: Path) -> None:
    made = Wanted("Q4_K_M").by_us(source, tmp_path / "q.gguf")
    mix = plan_mix(read_header(source), file_type("Q4_K_M"))
    assert {t.name: t.type for t in read_header(made).tensors} == dict(mix.types)
    with localllm.load(str(made), n_ctx=256, n_threads=1, gpu_layers=0) as llm:
        assert "Hello" in llm.ask("Say hello.", max_tokens=12, temperature=0).text
