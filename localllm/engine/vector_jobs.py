"""Requests for vectors and scores: what is refused, and whose turn it is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from localllm.engine.vectors import TextPooling, VectorsSink
from localllm.errors import ContextLengthExceeded, EngineClosed, RequestError

MAX_RESULT_BYTES = 256 << 20


class VectorJob:
    """A request: its inputs, how many of them were begun and how many are to come, and their vectors so far."""

    def __init__(
        self,
        request_id: int,
        inputs: Sequence[Sequence[int]],
        pooling: TextPooling | None,
        width: int,
        sink: VectorsSink,
    ) -> None:
        self.request_id = request_id
        self.inputs = inputs
        self.pooling = pooling
        self.sink = sink
        self.n_begun = 0
        self.n_left = len(inputs)
        self.vectors = np.empty((len(inputs), width), dtype=np.float32)
        self.is_cancelled = False

    @property
    def ranks(self) -> bool:
        """Whether scores are wanted."""
        return self.pooling is None

    @property
    def next_input(self) -> Sequence[int] | None:
        return self.inputs[self.n_begun] if self.n_begun < len(self.inputs) else None


class VectorJobs:
    """The requests that have not ended, in the order of their turns. Any thread may use it."""

    def __init__(self) -> None:
        self._jobs: deque[VectorJob] = deque()
        self._lock = threading.Lock()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: VectorJob) -> None:
        """Put a request at the end.

        Raises:
            EngineClosed: after `close`.
        """
        with self._lock:
            if self._is_closed:
                raise EngineClosed("The model was closed.", hint="Load it again.")
            self._jobs.append(job)

    def close(self) -> list[VectorJob]:
        """Take no more requests; return those there are."""
        with self._lock:
            self._is_closed = True
            return list(self._jobs)

    def remove(self, job: VectorJob) -> None:
        with self._lock:
            self._jobs.remove(job)

    def listed(self, wanted: Callable[[VectorJob], bool] = lambda job: True) -> list[VectorJob]:
        """Return those that are wanted."""
        with self._lock:
            return [job for job in self._jobs if wanted(job)]

    def next(self, ranks: bool) -> VectorJob | None:
        """Return the first request that has an input to begin."""
        with self._lock:
            return next((job for job in self._jobs if job.ranks == ranks and job.next_input is not None), None)

    def begin(self, job: VectorJob) -> int:
        """Begin a request's next input and return its index; the request's next turn is after all others'."""
        with self._lock:
            self._jobs.remove(job)
            self._jobs.append(job)
            job.n_begun += 1
            return job.n_begun - 1


def check_inputs(inputs: Sequence[Sequence[int]], n_ctx: int, n_vocab: int, width: int) -> None:
    """Check token sequences that shall become vectors of this width.

    Raises:
        ContextLengthExceeded: an input is longer than `n_ctx`.
        RequestError: no inputs, an empty one, a token outside the vocabulary, or too many inputs for one answer.
    """
    if not inputs:
        raise RequestError("There are no inputs.", hint="Give at least one.")
    n_most = MAX_RESULT_BYTES // (4 * width)
    if len(inputs) > n_most:
        raise RequestError(f"{len(inputs):,} inputs at once; {n_most:,} are allowed.", hint="Send them in parts.")
    for index, tokens in enumerate(inputs):
        _check_input(tokens, place(index, len(inputs)), n_ctx, n_vocab)


def place(index: int, n_inputs: int) -> str:
    """Name an input as an error does: "Input 3 of 8"."""
    return "The input" if n_inputs == 1 else f"Input {index + 1} of {n_inputs}"


def _check_input(tokens: Sequence[int], name: str, n_ctx: int, n_vocab: int) -> None:
    if not tokens:
        raise RequestError(f"{name} is empty.", hint="Give at least one character, or one token.")
    if len(tokens) > n_ctx:
        raise ContextLengthExceeded(
            f"{name} has {len(tokens)} tokens; the model reads {n_ctx} at once.",
            hint="Shorten it, or split it into parts.",
        )
    if min(tokens) < 0 or max(tokens) >= n_vocab:
        raise RequestError(f"{name} has a token id outside 0 to {n_vocab - 1}.", hint="Use this model's tokenizer.")
