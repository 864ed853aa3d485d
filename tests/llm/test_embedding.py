"""`embed` and `rerank` of the Python API: what is asked, what is cut and normalised, and giving up."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from localllm.engine.vectors import VectorsEvent, VectorsSink
from localllm.errors import RequestError, WorkerCrashed
from localllm.llm import LLM
from localllm.runtime.backend import EmbedRequest, RankRequest
from tests.scripted_backend import FIRST_VECTOR_ID, N_EMBD, ScriptedBackend


def test_vectors_come_in_order_with_length_one_and_their_tokens() -> None:
    result = LLM(ScriptedBackend()).embed(["ab", [3, 3, 3], "c"])
    assert result.vectors.shape == (3, N_EMBD) and result.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(result.vectors[1], np.eye(N_EMBD)[3])
    assert (result.input_tokens, result.n_tokens) == ((2, 3, 1), 6)


def test_without_normalisation_they_are_the_models_own() -> None:
    result = LLM(ScriptedBackend()).embed([[3, 3, 4]], normalize=False)
    np.testing.assert_array_equal(result.vectors, [[0, 0, 0, 2, 1, 0, 0, 0]])


def test_string_is_one_text() -> None:
    assert LLM(ScriptedBackend()).embed("hello").vectors.shape == (1, N_EMBD)


def test_dimensions_cut_and_normalise_again() -> None:
    llm = LLM(ScriptedBackend())
    whole = llm.embed([[1, 2, 5]], normalize=False).vectors
    cut = llm.embed([[1, 2, 5]], dimensions=3).vectors
    np.testing.assert_allclose(cut, whole[:, :3] / np.linalg.norm(whole[:, :3]), rtol=1e-6)
    np.testing.assert_array_equal(llm.embed([[1, 2, 5]], dimensions=3, normalize=False).vectors, whole[:, :3])


def test_vector_of_nothing_is_not_divided_by_zero() -> None:
    assert not LLM(ScriptedBackend()).embed([[7]], dimensions=2).vectors.any()


@pytest.mark.parametrize("dimensions", [0, -1, N_EMBD + 1, 2.0, True, "4"])
def test_impossible_dimensions_are_refused(dimensions: object) -> None:
    with pytest.raises(RequestError, match=f"1 to {N_EMBD}"):
        LLM(ScriptedBackend()).embed("x", dimensions=dimensions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "inputs", [None, 7, {"a": 1}, [1, 2], ["x", None], [[1, 2.0]], [[True]], [[-1]], [[2**31]], [b"x"], [[[1]]]]
)
def test_what_is_neither_text_nor_tokens_is_refused_before_it_is_sent(inputs: object) -> None:
    backend = ScriptedBackend()
    with pytest.raises(RequestError, match="nput"):
        LLM(backend).embed(inputs)  # type: ignore[arg-type]
    assert backend.vector_requests == []


def test_pooling_reaches_the_backend() -> None:
    backend = ScriptedBackend()
    LLM(backend).embed("x", pooling="cls")
    assert backend.vector_requests == [EmbedRequest(inputs=("x",), pooling="cls")]


def test_rerank_scores_in_order_and_ranks_best_first() -> None:
    backend = ScriptedBackend()
    result = LLM(backend).rerank("a", ["bb", "aab", "ab", "aa"])
    assert result.scores.tolist() == [0, 2, 1, 2]
    assert result.ranking == [1, 3, 2, 0]
    assert result.n_tokens == 3 + 4 + 3 + 3
    assert backend.vector_requests == [RankRequest(query="a", documents=("bb", "aab", "ab", "aa"))]


@pytest.mark.parametrize(("query", "documents"), [(7, ["a"]), ("a", "abc"), ("a", [b"x"]), ("a", None)])
def test_rerank_of_no_texts_is_refused(query: object, documents: object) -> None:
    with pytest.raises(RequestError, match="text"):
        LLM(ScriptedBackend()).rerank(query, documents)  # type: ignore[arg-type]


def test_async_results_match_the_sync_ones() -> None:
    llm = LLM(ScriptedBackend())

    async def run() -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        embedded, ranked = await asyncio.gather(llm.aembed(["ab", "c"], dimensions=4), llm.arerank("a", ["a", "b"]))
        return embedded.vectors, ranked.scores

    vectors, scores = asyncio.run(run())
    np.testing.assert_array_equal(vectors, llm.embed(["ab", "c"], dimensions=4).vectors)
    np.testing.assert_array_equal(scores, llm.rerank("a", ["a", "b"]).scores)


def test_cancelled_task_cancels_the_request() -> None:
    backend = ScriptedBackend()
    backend.answers_vectors = False

    async def run() -> None:
        task = asyncio.create_task(LLM(backend).aembed("x"))
        while not backend.vector_requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert backend.cancelled_ids == [FIRST_VECTOR_ID + 1]


def test_task_cancelled_while_it_submits_cancels_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend()
    backend.answers_vectors = False
    entered, go = threading.Event(), threading.Event()
    real = backend.embed

    def slow_embed(request: EmbedRequest, sink: VectorsSink) -> int:
        entered.set()
        assert go.wait(10)
        return real(request, sink)

    monkeypatch.setattr(backend, "embed", slow_embed)

    async def run() -> None:
        task = asyncio.create_task(LLM(backend).aembed("x"))
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()

    asyncio.run(run())
    assert backend.cancelled_ids == [FIRST_VECTOR_ID + 1]


def test_failure_is_raised_as_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from localllm.engine.events import ErrorInfo

    backend = ScriptedBackend()

    def fail(request: EmbedRequest, sink: VectorsSink) -> int:
        sink(VectorsEvent(request_id=1, reason="error", error=ErrorInfo("WorkerCrashed", "It ended.", "Again.")))
        return 1

    monkeypatch.setattr(backend, "embed", fail)
    with pytest.raises(WorkerCrashed, match="It ended"):
        LLM(backend).embed("x")
