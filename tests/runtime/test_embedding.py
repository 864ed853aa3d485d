"""Vectors and scores from both kinds of backend, held against NumPy and against llama.cpp's own pooling."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.engine.vectors import VectorsEvent
from localllm.errors import ContextLengthExceeded, EngineClosed, RequestError, UnsupportedModel, WorkerCrashed
from localllm.hardware.types import AdapterSpec, LoadOptions
from localllm.llama import Batch, Context, ContextParams, Model
from localllm.runtime import Backend, EmbedRequest, RankRequest, TextControls, open_backend
from localllm.runtime.client import WorkerBackend
from tests.bert import BertConfig, hidden_states, pooled, random_checkpoint, score, write_bert
from tests.runtime.conftest import OPTIONS, Record, generate, request
from tests.runtime.embedding_models import (
    CONFIG,
    ENCODER,
    RERANKER,
    VOCABULARY,
    embed,
    rank,
    token_sequences,
    vectors,
    write_encoder,
    write_generative_reranker,
    write_reranker,
)
from tests.tiny_adapter import write_tiny_adapter
from tests.tiny_model import write_tiny_model

CLOSE = {"rtol": 0.0, "atol": 6e-3}
"""Against float64 NumPy: llama.cpp's GELU is a table of 16-bit values; its vectors here have components of about 1."""
SAME = {"rtol": 0.0, "atol": 4e-3}
"""Against itself in another batch: attention sums 16-bit values, in tiles where a batch has 64 tokens or more."""

MakeBackend = Callable[..., Backend]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="session")
def encoder_path(folder: Path) -> Path:
    return write_encoder(folder / "encoder.gguf")


@pytest.fixture(scope="module", params=["local", "worker"])
def encoder(request: pytest.FixtureRequest, encoder_path: Path) -> Iterator[Backend]:
    backend = open_backend(encoder_path, OPTIONS, in_process=request.param == "local")
    yield backend
    backend.close()


@pytest.fixture(scope="module", params=["local", "worker"])
def reranker(request: pytest.FixtureRequest, folder: Path) -> Iterator[Backend]:
    path = write_reranker(folder / f"reranker-{request.param}.gguf")
    backend = open_backend(path, OPTIONS, in_process=request.param == "local")
    yield backend
    backend.close()


# An encoder.


def test_info_says_what_an_encoder_can_do(encoder: Backend) -> None:
    info = encoder.info
    assert info.capabilities == ("embedding",)
    assert (info.n_embd, info.n_ctx, info.n_cells) == (CONFIG.n_embd, CONFIG.n_ctx, 0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_match_numpy(encoder: Backend, pooling: str) -> None:
    texts = token_sequences([1, 2, 7, 40, 128])
    expected = [pooled(hidden_states(ENCODER, CONFIG, tokens), pooling) for tokens in texts]
    np.testing.assert_allclose(vectors(encoder, texts, pooling), expected, **CLOSE)


def test_text_gets_its_special_tokens_and_is_no_special_token_itself(encoder: Backend) -> None:
    event = embed(encoder, ["hello world", "[SEP]"])
    hello, world = VOCABULARY.index("hello"), VOCABULARY.index("world")
    tokens = [VOCABULARY.index("[CLS]"), hello, world, VOCABULARY.index("[SEP]")]
    assert event.n_tokens[0] == len(tokens)
    np.testing.assert_allclose(event.vectors[0], pooled(hidden_states(ENCODER, CONFIG, tokens), "mean"), **CLOSE)
    assert event.n_tokens[1] > 3


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_models_own_pooling_is_the_default(make_backend: MakeBackend, tmp_path: Path, pooling: str) -> None:
    backend = make_backend(write_encoder(tmp_path / "m.gguf", pooling))
    [tokens] = token_sequences([9])
    expected = pooled(hidden_states(ENCODER, CONFIG, tokens), pooling)
    np.testing.assert_allclose(vectors(backend, [tokens])[0], expected, **CLOSE)


def test_batch_equals_singles(encoder: Backend) -> None:
    texts = token_sequences([3, 128, 1, 60, 128, 128, 128, 5, *([4] * 80)])
    singles = np.concatenate([vectors(encoder, [tokens]) for tokens in texts])
    batch = vectors(encoder, texts)
    np.testing.assert_allclose(batch, singles, **SAME)
    cosines = (batch * singles).sum(axis=1) / np.linalg.norm(batch, axis=1) / np.linalg.norm(singles, axis=1)
    assert cosines.min() > 0.99999


def test_too_long_empty_and_foreign_inputs_are_refused_by_name(encoder: Backend) -> None:
    short, long = token_sequences([3, 129])
    with pytest.raises(ContextLengthExceeded, match=r"Input 2 of 3 has 129 tokens; the model reads 128"):
        embed(encoder, [short, long, short])
    with pytest.raises(ContextLengthExceeded, match=r"The input has \d+ tokens"):
        embed(encoder, ["hello world " * 100])
    for inputs, match in (
        ([], "no inputs"),
        ([""], "The input is empty"),
        (["hello", ()], "Input 2 of 2 is empty"),
        ([[len(VOCABULARY)]], "outside 0 to"),
    ):
        with pytest.raises(RequestError, match=match):
            embed(encoder, inputs)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"no pooling 'rank'"):
        embed(encoder, [short], "rank")
    assert vectors(encoder, [short]).shape == (1, CONFIG.n_embd)


def test_encoder_makes_no_text_and_ranks_nothing_and_says_what_does(encoder: Backend) -> None:
    with pytest.raises(RequestError, match="cannot generate text; it can embed") as caught:
        encoder.submit(request(5), TextControls(), Record())
    assert "chat model" in str(caught.value.hint)
    with pytest.raises(RequestError, match="cannot rerank") as caught:
        encoder.rank(RankRequest(query="a", documents=("b",)), lambda event: None)
    assert "reranker" in str(caught.value.hint)


def test_stats_of_an_encoder_count(make_backend: MakeBackend, encoder_path: Path) -> None:
    backend = make_backend(encoder_path)
    vectors(backend, token_sequences([3, 4]))
    stats = backend.stats()
    assert (stats.n_inputs_embedded, stats.n_tokens_embedded) == (2, 7)
    assert (stats.n_requests, stats.n_finished, stats.n_running) == (1, 1, 0)


def test_texts_longer_than_a_batch_are_read_whole(make_backend: MakeBackend, tmp_path: Path) -> None:
    config = BertConfig(n_layer=1, n_ctx=2048)
    weights = random_checkpoint(config, len(VOCABULARY), seed=3)
    path = write_bert(tmp_path / "m.gguf", weights, config, VOCABULARY)
    backend = make_backend(path, LoadOptions(n_threads=1, gpu_layers=0))
    texts = token_sequences([10, 1500, 700, 2048, 20])
    expected = [pooled(hidden_states(weights, config, tokens), "mean") for tokens in texts]
    np.testing.assert_allclose(vectors(backend, texts), expected, **CLOSE)


def test_n_ctx_may_be_smaller_than_the_models(make_backend: MakeBackend, encoder_path: Path) -> None:
    backend = make_backend(encoder_path, LoadOptions(n_ctx=20, n_threads=1, gpu_layers=0))
    assert backend.info.n_ctx == 20
    assert vectors(backend, token_sequences([20, 3, 20])).shape == (3, CONFIG.n_embd)
    with pytest.raises(ContextLengthExceeded, match="has 21 tokens; the model reads 20"):
        embed(backend, token_sequences([21]))


def test_vocabulary_without_its_special_tokens_is_refused(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_encoder(tmp_path / "m.gguf")
    key = b"tokenizer.ggml.bos_token_id"
    path.write_bytes(path.read_bytes().replace(key, key[:-1] + b"x"))
    with pytest.raises(UnsupportedModel, match="special tokens"):
        make_backend(path)


# A reranker.


def test_scores_match_numpy(reranker: Backend) -> None:
    cls, sep = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")
    query, documents = "why is the sky blue", ["the sky is blue", "hello", "tokens, tokens!"]
    asked = reranker.tokenize(query, add_special=False, parse_special=False)
    expected = []
    for document in documents:
        answered = reranker.tokenize(document, add_special=False, parse_special=False)
        expected.append(score(RERANKER, CONFIG, [cls, *asked, sep, *answered, sep]))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(rank(reranker, query, documents), expected, **CLOSE)


def test_reranker_embeds_nothing_and_says_so(reranker: Backend) -> None:
    assert reranker.info.capabilities == ("rerank",)
    with pytest.raises(RequestError, match="tiny-reranker cannot embed; it can rerank"):
        embed(reranker, ["hello"])


@pytest.mark.parametrize(("query", "documents"), [("", ("a",)), ("a", ())])
def test_empty_rankings_are_refused(reranker: Backend, query: str, documents: tuple[str, ...]) -> None:
    with pytest.raises(RequestError, match=r"empty|no documents"):
        reranker.rank(RankRequest(query=query, documents=documents), lambda event: None)


def test_documents_that_are_too_long_are_refused(reranker: Backend) -> None:
    with pytest.raises(ContextLengthExceeded, match="Input 2 of 2"):
        reranker.rank(RankRequest(query="hello", documents=("a", "world " * 200)), lambda event: None)


# Models that also generate.


def llama_cpp_pooled(path: Path, tokens: list[int], pooling: str) -> np.ndarray:  # type: ignore[type-arg]
    """Return what llama.cpp makes of one text in one batch, with its own pooling."""
    params = ContextParams(n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=1, embeddings=True, pooling=pooling)  # type: ignore[arg-type]
    with Model(path) as model, Context(model, params) as context:
        batch = Batch(1024)
        batch.add_outputs(tokens, 0, 0)
        assert context.decode(batch) == 0
        return context.rank_scores(0) if pooling == "rank" else context.pooled_embedding(0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_chat_model_embeds_as_llama_cpp_pools(backend: Backend, tiny_path: Path, pooling: str) -> None:
    assert backend.info.capabilities == ("completion", "chat", "embedding")
    texts = [[t % 200 for t in tokens] for tokens in token_sequences([1, 30, 700, 64, 1024])]
    expected = [llama_cpp_pooled(tiny_path, tokens, pooling) for tokens in texts]
    np.testing.assert_allclose(vectors(backend, texts, pooling), expected, **SAME)


def test_chat_model_pools_by_the_mean_unless_told(backend: Backend) -> None:
    texts = ["hello the world", "another"]
    np.testing.assert_array_equal(vectors(backend, texts), vectors(backend, texts, "mean"))


def test_embedding_decoder_takes_the_last_token(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", arch="qwen3", extra={"qwen3.pooling_type": 3})
    backend = make_backend(path)
    tokens = [t % 200 for t in token_sequences([300])[0]]
    np.testing.assert_allclose(vectors(backend, [tokens])[0], llama_cpp_pooled(path, tokens, "last"), **SAME)


def test_generative_reranker_fills_its_template(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_generative_reranker(tmp_path / "m.gguf")
    backend = make_backend(path)
    assert backend.info.capabilities == ("completion", "chat", "embedding", "rerank")
    documents = ["the world", "{query}", "ell " * 40]
    expected = []
    for document in documents:
        text = f"<|im_start|>Q: hello\nD: {document}<|im_end|>"
        tokens = backend.tokenize(text, add_special=False, parse_special=True)
        expected.append(llama_cpp_pooled(path, tokens, "rank")[0])
    scores = rank(backend, "hello", documents)
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert ((scores > 0) & (scores < 1)).all() and np.ptp(scores) > 1e-3
    assert vectors(backend, ["hello"]).shape == (1, 64)


def test_chat_model_that_has_no_layer_for_it_does_not_rank(backend: Backend) -> None:
    with pytest.raises(RequestError, match="tiny cannot rerank; it can generate text and embed"):
        backend.rank(RankRequest(query="a", documents=("b",)), lambda event: None)


# Many at once.


def test_many_threads_embed_while_streams_run(backend: Backend) -> None:
    texts = [[t % 200 for t in tokens] for tokens in token_sequences(range(1, 65), seed=4)]
    expected = vectors(backend, texts)
    tokens = generate(backend, request(max_tokens=300)).tokens
    streams = [Record() for _ in range(4)]
    for record in streams:
        backend.submit(request(max_tokens=300), TextControls(), record)
    results: dict[int, np.ndarray] = {}  # type: ignore[type-arg]

    def run(number: int) -> None:
        for index in range(number, 64, 8):
            results[index] = vectors(backend, [texts[index]])[0]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    np.testing.assert_allclose([results[index] for index in range(64)], expected, **SAME)
    for record in streams:
        assert record.wait().reason == "length" and record.tokens == tokens


def test_request_of_one_text_does_not_wait_for_one_of_many(encoder: Backend) -> None:
    order: queue.SimpleQueue[str] = queue.SimpleQueue()
    many = EmbedRequest(inputs=tuple(map(tuple, token_sequences([128] * 400))))
    encoder.embed(many, lambda event: order.put("many"))
    encoder.embed(EmbedRequest(inputs=("hello",)), lambda event: order.put("one"))
    assert [order.get(timeout=60), order.get(timeout=60)] == ["one", "many"]


def test_cancel_ends_a_request_early(encoder: Backend) -> None:
    answer: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    many = EmbedRequest(inputs=tuple(map(tuple, token_sequences([128] * 2000))))
    request_id = encoder.embed(many, answer.put)
    encoder.cancel(request_id)
    event = answer.get(timeout=60)
    assert (event.request_id, event.reason, event.data) == (request_id, "cancelled", b"")
    assert vectors(encoder, ["hello"]).shape == (1, CONFIG.n_embd)
    encoder.cancel(request_id)


def test_cancel_of_a_long_text_leaves_the_streams_and_others_alone(backend: Backend) -> None:
    long = [t % 200 for t in token_sequences([1000])[0]]
    expected = vectors(backend, [long])
    answers: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    record = Record()
    backend.submit(request(max_tokens=60), TextControls(), record)
    ids = [backend.embed(EmbedRequest(inputs=(tuple(long),)), answers.put) for _ in range(2)]
    backend.cancel(ids[0])
    events = {event.request_id: event for event in (answers.get(timeout=60), answers.get(timeout=60))}
    assert events[ids[0]].reason in ("cancelled", "done")
    np.testing.assert_allclose(events[ids[1]].vectors, expected, **SAME)
    assert record.wait().reason == "length"


def test_failing_sink_hurts_nobody_else(encoder: Backend) -> None:
    def fail(event: VectorsEvent) -> None:
        raise ZeroDivisionError

    encoder.embed(EmbedRequest(inputs=("hello",)), fail)
    assert vectors(encoder, ["world"]).shape == (1, CONFIG.n_embd)


# The end.


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_close_ends_what_waits_and_refuses_what_comes(
    make_backend: MakeBackend, encoder_path: Path, tiny_path: Path, kind: str
) -> None:
    backend = make_backend(encoder_path if kind == "encoder" else tiny_path)
    answer: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    inputs = tuple(tuple(t % 100 for t in tokens) for tokens in token_sequences([128] * 2000))
    backend.embed(EmbedRequest(inputs=inputs), answer.put)
    backend.close()
    event = answer.get(timeout=60)
    assert event.reason == "error" and event.error is not None and event.error.kind == "EngineClosed"
    with pytest.raises(EngineClosed):
        embed(backend, ["hello"])
    assert not backend.is_alive


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_crash_of_the_worker_ends_requests_with_its_error(encoder_path: Path) -> None:
    backend = WorkerBackend(encoder_path, OPTIONS)
    answer: queue.SimpleQueue[VectorsEvent] = queue.SimpleQueue()
    backend.embed(EmbedRequest(inputs=tuple(map(tuple, token_sequences([128] * 2000)))), answer.put)
    os.kill(backend.pid, signal.SIGKILL)
    event = answer.get(timeout=60)
    assert event.reason == "error" and event.error is not None
    with pytest.raises(WorkerCrashed):
        raise event.error.to_error()
    with pytest.raises(WorkerCrashed):
        embed(backend, ["hello"])
    backend.close()


def test_adapters_of_the_load_apply_to_vectors_too(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_adapter(tmp_path / "a.gguf", seed=1)

    def vector_at(*scales: float) -> np.ndarray:  # type: ignore[type-arg]
        adapters = tuple(AdapterSpec(path, scale) for scale in scales)
        return vectors(make_backend(options=replace(OPTIONS, adapters=adapters)), ["hello the world"])[0]

    bare = vector_at()
    np.testing.assert_allclose(vector_at(0.0), bare, **SAME)
    assert np.abs(vector_at(1.0) - bare).max() > 0.05
