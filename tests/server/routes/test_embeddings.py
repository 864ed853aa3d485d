"""Vectors and scores over HTTP, with scripted and tiny models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.runtime.embedding_models import write_encoder, write_reranker
from tests.scripted_backend import ScriptedBackend
from tests.server.running import Running, serving_files, serving_scripted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("models")
    paths = {"encoder": write_encoder(folder / "e.gguf"), "reranker": write_reranker(folder / "r.gguf")}
    with serving_files(paths) as running:
        yield running


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_openais_client_gets_vectors_of_length_one(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="encoder", input=["hello world", "the sky is blue"])
    vectors = np.array([entry.embedding for entry in answer.data])
    assert vectors.shape == (2, 32) and [entry.index for entry in answer.data] == [0, 1]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 10


def test_base64_and_floats_are_the_same_numbers(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="encoder", input="hello")
    plain = client.embeddings.create(model="encoder", input="hello", encoding_format="float")
    assert packed.data[0].embedding == plain.data[0].embedding


def test_tokens_do_as_well_as_texts(server: Running, client: openai.OpenAI) -> None:
    tokens = server.post("/tokenize", content="hello world", add_special=True, model="encoder").json()["tokens"]
    texts = client.embeddings.create(model="encoder", input=["hello world"], encoding_format="float")
    for given in (tokens, [tokens]):
        same = client.embeddings.create(model="encoder", input=given, encoding_format="float")
        np.testing.assert_allclose(same.data[0].embedding, texts.data[0].embedding, atol=1e-5)


def test_dimensions_cut_a_vector_and_keep_its_length(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model="encoder", input="hello").data[0].embedding
    part = client.embeddings.create(model="encoder", input="hello", dimensions=8).data[0].embedding
    np.testing.assert_allclose(part, np.array(whole[:8]) / np.linalg.norm(whole[:8]), atol=1e-5)
    with pytest.raises(openai.BadRequestError, match="1 to 32"):
        client.embeddings.create(model="encoder", input="hello", dimensions=33)


def test_a_text_that_is_too_long_has_the_code_that_clients_look_for(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="encoder", input="sky " * 500)
    assert caught.value.code == "context_length_exceeded"


def test_a_model_that_cannot_is_a_bad_request(client: openai.OpenAI, server: Running) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot embed"):
        client.embeddings.create(model="reranker", input="hello")
    refused = server.post("/v1/rerank", model="encoder", query="a", documents=["b"])
    assert refused.status_code == 400 and "cannot rerank" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/reranking", "/reranking"])
def test_documents_are_ordered_by_their_scores(server: Running, path: str) -> None:
    documents = ["blue", "the world", "hello world", "token"]
    answer = server.post(path, model="reranker", query="why is the sky blue", documents=documents).json()
    scores = [entry["relevance_score"] for entry in answer["results"]]
    assert scores == sorted(scores, reverse=True) and sorted(e["index"] for e in answer["results"]) == [0, 1, 2, 3]
    best = server.post(path, model="reranker", query="why is the sky blue", documents=documents, top_n=1).json()
    assert best["results"] == answer["results"][:1]


def test_llama_servers_own_embedding(server: Running, client: openai.OpenAI) -> None:
    [entry] = server.post("/embedding", model="encoder", content="hello").json()
    expected = client.embeddings.create(model="encoder", input="hello").data[0].embedding
    np.testing.assert_allclose(entry["embedding"][0], expected, atol=1e-6)
    [raw] = server.post("/embedding", model="encoder", content="hello", embd_normalize=-1).json()
    assert abs(np.linalg.norm(raw["embedding"][0]) - 1) > 0.01


def test_ollama_embeds_one_text_or_several(server: Running) -> None:
    one = server.post("/api/embed", model="encoder", input="hello").json()
    two = server.post("/api/embed", model="encoder:latest", input=["hello", "world"], dimensions=4).json()
    assert np.array(one["embeddings"]).shape == (1, 32) and np.array(two["embeddings"]).shape == (2, 4)
    assert one["prompt_eval_count"] == 3 and one["total_duration"] > 0
    old = server.post("/api/embeddings", model="encoder", prompt="hello").json()["embedding"]
    np.testing.assert_allclose(np.array(old) / np.linalg.norm(old), one["embeddings"][0], atol=1e-5)


def test_ollama_leaves_out_the_end_of_a_text_that_is_too_long_unless_told_not_to(server: Running) -> None:
    long = server.post("/api/embed", model="encoder", input="sky " * 500).json()
    assert long["prompt_eval_count"] == 128
    same = server.post("/api/embed", model="encoder", input="sky " * 126).json()
    np.testing.assert_allclose(long["embeddings"], same["embeddings"], atol=1e-5)
    refused = server.post("/api/embed", model="encoder", input="sky " * 500, truncate=False)
    assert refused.status_code == 400 and "128" in refused.json()["error"]


def test_without_a_text_ollamas_embedding_loads_the_model() -> None:
    with serving_scripted({"a": ScriptedBackend()}) as server:
        assert server.post("/api/embed", model="a").json()["embeddings"] == []
        assert server.post("/api/embeddings", model="a").json() == {"embedding": []}
        assert server.http.get("/v1/models/a").json()["state"] == "loaded"


def test_a_client_that_leaves_gives_its_request_up() -> None:
    backend = ScriptedBackend()
    backend.answers_vectors = False
    with serving_scripted({"a": backend}) as server:
        with pytest.raises(httpx.ReadTimeout):
            server.http.post("/v1/embeddings", json={"input": "x"}, timeout=0.5)
        until = time.monotonic() + 10
        while 'outcome="cancelled"' not in server.http.get("/metrics").text:
            assert time.monotonic() < until
        assert backend.cancelled_ids
