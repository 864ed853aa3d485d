"""Vectors and scores of texts: what is asked of the backend, and what becomes of its answer."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from localllm.engine.vectors import VectorsEvent, VectorsSink
from localllm.errors import EngineError, RequestError
from localllm.runtime.backend import Backend, EmbedRequest, RankRequest

Inputs = str | Sequence[str | Sequence[int]]
"""Texts, or their token ids; a string is one text."""

_MAX_TOKEN = 2**31 - 1
# Windows does not interrupt a thread that waits for a lock, so Ctrl-C is noticed between waits.
_WAIT_S = 0.1 if os.name == "nt" else None


@dataclass(frozen=True, eq=False)
class EmbeddingResult:
    """A vector for each input, in the order of the inputs."""

    vectors: NDArray[np.float32]
    """[n_inputs, n_dimensions]; of length 1 each, unless `normalize` was off."""
    input_tokens: tuple[int, ...]
    """Tokens of each input, the special ones included."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all inputs together."""
        return sum(self.input_tokens)


@dataclass(frozen=True, eq=False)
class RerankResult:
    """A score for each document, in the order of the documents."""

    scores: NDArray[np.float32]
    """[n_documents], as the model gives them, higher for a better answer: a logit of any size, or a probability."""
    input_tokens: tuple[int, ...]
    """Tokens of each pair of query and document."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all pairs together."""
        return sum(self.input_tokens)

    @property
    def ranking(self) -> list[int]:
        """Indices of the documents, the best first; equal ones in their own order."""
        return [int(index) for index in np.argsort(-self.scores, kind="stable")]


class VectorCall:
    """One request of a backend. `start` and `cancel` may meet on different threads."""

    def __init__(self, backend: Backend, request: EmbedRequest | RankRequest) -> None:
        self._backend = backend
        self._request = request
        self._lock = threading.Lock()
        self._request_id: int | None = None
        self._cancelled = False

    def start(self, sink: VectorsSink) -> None:
        """Submit the request; `sink` gets its event.

        Raises:
            LocalLLMError: the backend refused it.
        """
        request = self._request
        if isinstance(request, EmbedRequest):
            request_id = self._backend.embed(request, sink)
        else:
            request_id = self._backend.rank(request, sink)
        with self._lock:
            self._request_id = request_id
            too_late = self._cancelled
        if too_late:
            self._backend.cancel(request_id)

    def cancel(self) -> None:
        """Give the request up, also one that a `start` on another thread is about to submit."""
        with self._lock:
            self._cancelled = True
            request_id = self._request_id
        if request_id is not None:
            self._backend.cancel(request_id)

    def wait(self) -> VectorsEvent:
        """Start, and return the event; an exception meanwhile gives the request up."""
        queue: SimpleQueue[VectorsEvent] = SimpleQueue()
        try:
            self.start(queue.put)
            while True:
                with suppress(Empty):
                    return _checked(queue.get(timeout=_WAIT_S))
        except BaseException:
            self.cancel()
            raise

    async def wait_async(self) -> VectorsEvent:
        """`wait` for asyncio; cancelling the task gives the request up."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[VectorsEvent] = loop.create_future()

        def settle(event: VectorsEvent) -> None:
            if not answer.done():
                answer.set_result(event)

        def deliver(event: VectorsEvent) -> None:
            # The loop may have been closed under a request that was left behind.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, event)

        try:
            await asyncio.to_thread(self.start, deliver)
            return _checked(await answer)
        except BaseException:
            self.cancel()
            raise


def _checked(event: VectorsEvent) -> VectorsEvent:
    if event.reason == "done":
        return event
    raise event.error.to_error() if event.error else EngineError("The request was cancelled.", hint="Send it again.")


def embed_request(inputs: Inputs, pooling: str | None) -> EmbedRequest:
    """Check the types of what shall be embedded; what it means for the model is checked by the backend.

    Raises:
        RequestError: an input is neither a text nor token ids.
    """
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, list | tuple):
        raise RequestError(f"The inputs must be a list, not {type(inputs).__name__}.")
    return EmbedRequest(inputs=tuple(_input(text, number) for number, text in enumerate(texts, 1)), pooling=pooling)


def _input(text: object, number: int) -> str | tuple[int, ...]:
    if isinstance(text, str):
        return text
    if isinstance(text, list | tuple) and all(type(token) is int and 0 <= token <= _MAX_TOKEN for token in text):
        return tuple(text)
    raise RequestError(f"Input {number} is neither a text nor a list of token ids.", hint="Give either.")


def rank_request(query: str, documents: Sequence[str]) -> RankRequest:
    """Check the types of what shall be ranked.

    Raises:
        RequestError: the query or a document is no text.
    """
    if not isinstance(query, str):
        raise RequestError(f"The query must be a text, not {type(query).__name__}.")
    if not isinstance(documents, list | tuple) or not all(isinstance(document, str) for document in documents):
        raise RequestError("The documents must be a list of texts.")
    return RankRequest(query=query, documents=tuple(documents))


def check_dimensions(dimensions: int | None, n_embd: int) -> None:
    """Check how much of a vector is wanted.

    Raises:
        RequestError: no whole number from 1 to the model's width.
    """
    is_whole = isinstance(dimensions, int) and not isinstance(dimensions, bool)
    if dimensions is not None and not (is_whole and 1 <= dimensions <= n_embd):
        raise RequestError(f"dimensions is {dimensions!r}; this model has 1 to {n_embd}.", hint="Leave it out for all.")


def embedding_result(event: VectorsEvent, dimensions: int | None, normalize: bool) -> EmbeddingResult:
    """Return the vectors, cut to their first `dimensions` (Kusupati et al. 2022), then brought to length 1."""
    vectors = event.vectors[:, :dimensions]
    if normalize:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return EmbeddingResult(np.ascontiguousarray(vectors), event.n_tokens)


def rerank_result(event: VectorsEvent) -> RerankResult:
    """Return the scores."""
    return RerankResult(event.vectors[:, 0], event.n_tokens)
