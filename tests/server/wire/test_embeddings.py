"""Embeddings and scores on the wire."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from localllm.llm.embedding import EmbeddingResult, RerankResult
from localllm.server.errors import BadRequest
from localllm.server.wire.embeddings import EmbeddingRequest, NativeEmbeddingRequest, embedding_list, native_embeddings
from localllm.server.wire.rerank import RerankRequest, rerank_list

VECTORS = np.array([[0.6, 0.8], [-1.0, 0.0]], np.float32)
RESULT = EmbeddingResult(VECTORS, (3, 2))


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_inputs_are_texts_or_tokens_one_or_several(given: Any, inputs: list[Any]) -> None:
    assert EmbeddingRequest(input=given).inputs() == inputs
    assert NativeEmbeddingRequest(content=given).inputs() == inputs
    assert NativeEmbeddingRequest(input=given).inputs() == inputs


@pytest.mark.parametrize("given", ["", [], ["a"] * 2049])
def test_nothing_and_too_much_are_refused(given: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        EmbeddingRequest(input=given).inputs()
    assert caught.value.param == "input"
    with pytest.raises(BadRequest):
        NativeEmbeddingRequest().inputs()


def test_floats_are_the_default_and_base64_on_request() -> None:
    plain = embedding_list(EmbeddingRequest(input=["a", "b"]), "m", RESULT)
    assert [entry["embedding"] for entry in plain["data"]] == VECTORS.tolist()
    assert [entry["index"] for entry in plain["data"]] == [0, 1]
    assert plain["usage"] == {"prompt_tokens": 5, "total_tokens": 5} and plain["model"] == "m"
    packed = embedding_list(EmbeddingRequest(input=["a", "b"], encoding_format="base64"), "m", RESULT)
    data = [np.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in packed["data"]]
    np.testing.assert_array_equal(data, VECTORS)


def test_llama_servers_own_shape_has_a_list_of_vectors_each() -> None:
    assert native_embeddings(RESULT)[1] == {"index": 1, "embedding": [[-1.0, 0.0]]}


def test_the_best_document_is_first() -> None:
    result = RerankResult(np.array([0.1, 3.5, -2.0], np.float32), (4, 5, 6))
    request = RerankRequest(query="q", documents=["a", {"text": "b"}, "c"], top_n=2, return_documents=True)  # type: ignore[list-item]
    answer = rerank_list(request, "m", result)
    assert [(entry["index"], entry["document"]["text"]) for entry in answer["results"]] == [(1, "b"), (0, "a")]
    assert answer["results"][0]["relevance_score"] == 3.5
    assert answer["usage"] == {"prompt_tokens": 15, "total_tokens": 15}
    everything = rerank_list(RerankRequest(query="q", documents=["a", "b", "c"]), "m", result)
    assert len(everything["results"]) == 3 and "document" not in everything["results"][0]
