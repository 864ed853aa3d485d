"""Many requests for vectors and scores at once on one model: which texts are computed next, in which batch.

Requests take turns text by text, so that one of a thousand texts does not keep one of a single text waiting. Contexts
are made when they are needed, no larger than needed, and large ones are given back when nobody waits: llama.cpp sets
aside a row of logits for every token of an embedding batch.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence

from localllm.engine.events import ErrorInfo
from localllm.engine.lane import Lane, Row
from localllm.engine.vector_jobs import VectorJob, VectorJobs, check_inputs
from localllm.engine.vectors import TextPooling, VectorsEvent, VectorsReason, VectorsSink
from localllm.errors import DecodeFailed, LocalLLMError, NotEnoughMemory
from localllm.hardware import available_ram_bytes, format_bytes
from localllm.hardware.types import LoadPlan
from localllm.llama import LoraAdapter, Model

log = logging.getLogger("localllm.engine")

N_BATCH = 512
"""Tokens of a batch of whole texts; wider ones gain nothing, since attention takes in every pair of tokens there."""
MAX_LOGITS_BYTES = 128 << 20
"""Of a batch on a model that also generates: llama.cpp computes the logits of every token there."""
N_BATCH_LEAST = 64
N_FIRST = 64
"""Tokens of the first batch, before it is known what one costs."""
N_PIECE_LEAST = 16
_COST_WEIGHT = 0.3


class Embedder:
    """Embeds and ranks on a thread that others lend it: a `Visitor`. Any thread may call `submit` and `cancel`.

    Args:
        model: stays the caller's, to be closed after the embedder.
        plan: the model's.
        adapters: LoRA adapters to apply, each with its scale. They stay the caller's.
        n_ctx: tokens that one text may have.
        is_causal: whether tokens see only those before them; else a text must be computed at once.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        *,
        adapters: Sequence[tuple[LoraAdapter, float]] = (),
        n_ctx: int,
        is_causal: bool,
    ) -> None:
        self._model = model
        self._plan = plan
        self._adapters = adapters
        self.n_ctx = n_ctx
        self._is_causal = is_causal
        self._n_batch = _n_batch(model, n_ctx) if is_causal else min(N_BATCH, n_ctx)
        self._jobs = VectorJobs()
        self._rows: dict[Row, tuple[VectorJob, int]] = {}
        self._lanes: dict[bool, Lane] = {}
        self._running: Lane | None = None
        self._running_lock = threading.Lock()
        self._ids = itertools.count(1)
        self._per_token_s: float | None = None
        self._ranks = False
        self.n_requests = self.n_finished = self.n_cancelled = 0
        self.n_inputs_embedded = self.n_tokens_embedded = 0

    @property
    def n_jobs(self) -> int:
        """Requests that have not ended."""
        return len(self._jobs)

    def submit(
        self,
        inputs: Sequence[Sequence[int]],
        pooling: TextPooling | None,
        sink: VectorsSink,
        *,
        request_id: int | None = None,
    ) -> int:
        """Queue a request and return its id. It ends in exactly one VectorsEvent. Wake the thread after this.

        Args:
            inputs: token ids of each text.
            pooling: how a text's vectors become one; None asks for scores, of a model that ranks.
            sink: called with the event on the thread that computes; must not block.
            request_id: for a caller that numbers its requests itself.

        Raises:
            ContextLengthExceeded, RequestError: see `check_inputs`.
            EngineClosed: the embedder was closed.
        """
        width = self._model.n_embd_out if pooling else 1
        check_inputs(inputs, self.n_ctx, self._model.vocab.n_tokens, width)
        job = VectorJob(next(self._ids) if request_id is None else request_id, inputs, pooling, width, sink)
        self._jobs.add(job)
        self.n_requests += 1
        return job.request_id

    def cancel(self, request_id: int) -> None:
        """End a request with the reason "cancelled", also in the middle of a batch that is its alone."""
        for job in self._jobs.listed(lambda job: job.request_id == request_id):
            job.is_cancelled = True
            with self._running_lock:
                if self._running is not None and all(self._rows[row][0] is job for row in self._running.open):
                    self._running.abort.set()

    # The computing thread.

    @property
    def has_work(self) -> bool:
        return len(self._jobs) > 0

    def visit(self, budget_s: float) -> None:
        """Compute one batch, and say what it ended."""
        for job in self._jobs.listed(lambda job: job.is_cancelled):
            self._end(job, "cancelled")
        try:
            if self._jobs:
                self._compute_batch(self._affordable(budget_s))
        except Exception as error:
            log.exception("embedding failed")
            for job in self._jobs.listed():
                self._end(job, "error", ErrorInfo.of(error))
        if not self._jobs:
            self._give_back()

    def close(self) -> None:
        """End all requests with EngineClosed, and free the contexts."""
        closed = ErrorInfo("EngineClosed", "The model was closed.", "Load it again.")
        for job in self._jobs.close():
            self._end(job, "error", closed)
        for lane in list(self._lanes.values()):
            self._drop_lane(lane)

    def _affordable(self, budget_s: float) -> int:
        """Return how many tokens to compute; an encoder's texts are whole, and nobody waits beside it."""
        if not self._is_causal:
            return self._n_batch
        n = N_FIRST if self._per_token_s is None else int(budget_s / self._per_token_s)
        return min(max(n, N_PIECE_LEAST), self._n_batch)

    def _compute_batch(self, n_tokens: int) -> None:
        """Compute about `n_tokens` tokens. What fails ends the requests that it was done for."""
        ranks = self._next_kind()
        next_job = self._jobs.next(ranks)
        try:
            lane = self._lane_for(ranks, len(next_job.next_input or ()) if next_job else 0)
        except LocalLLMError as error:
            assert next_job is not None
            self._end(next_job, "error", ErrorInfo.of(error))
            return
        pieces = self._plan_batch(lane, n_tokens)
        try:
            self._compute(lane, pieces)
        except DecodeFailed as error:
            for job in {job for job, _ in self._rows.values() if job.ranks == ranks}:
                self._end(job, "error", ErrorInfo.of(error))
            self._drop_lane(lane)

    def _next_kind(self) -> bool:
        """Return whether scores are next: they take turns with vectors, which need another context."""
        kinds = {job.ranks for job in self._jobs.listed()}
        self._ranks = not self._ranks if len(kinds) == 2 else kinds.pop()
        return self._ranks

    def _lane_for(self, ranks: bool, n_tokens: int) -> Lane:
        """Return a lane that holds a text of `n_tokens`, unless the one there is has texts to finish first."""
        lane = self._lanes.get(ranks)
        if lane is not None and (lane.open or lane.n_cells >= n_tokens):
            return lane
        if lane is not None:
            self._drop_lane(lane)
        n_cells = self._n_cells(n_tokens)
        self._check_memory(n_cells)
        n_batch = self._n_batch if self._is_causal else n_cells
        lane = Lane(self._model, self._plan, self._adapters, n_batch=n_batch, n_cells=n_cells, ranks=ranks)
        self._lanes[ranks] = lane
        return lane

    def _n_cells(self, n_tokens: int) -> int:
        """Return the size of a context for texts of `n_tokens`: one or two batches, doubled until they fit."""
        n_cells = 2 * self._n_batch if self._is_causal else self._n_batch
        while n_cells < n_tokens:
            n_cells *= 2
        return min(n_cells, self.n_ctx)

    def _check_memory(self, n_cells: int) -> None:
        """A second context was not planned for: it may take half of what is free. An encoder's only one was."""
        if not self._is_causal or self._plan.n_gpu_layers:
            return
        logits_bytes = 2 * 4 * self._model.vocab.n_tokens * self._n_batch
        needed = self._plan.estimate.kv_bytes * n_cells // self._plan.n_ctx + logits_bytes
        allowed = available_ram_bytes() // 2
        if needed > allowed:
            raise NotEnoughMemory(
                f"Embedding needs {format_bytes(needed)} beside the loaded model; {format_bytes(allowed)}, half of "
                "what is free, is allowed.",
                hint="Send shorter texts, or load an embedding model.",
            )

    def _plan_batch(self, lane: Lane, n_tokens: int) -> list[tuple[Row, int]]:
        """Choose the next tokens: of the texts that were begun, then of new ones, a text from each request in turn."""
        pieces: list[tuple[Row, int]] = []
        left = n_tokens
        for row in lane.open:
            if left > 0:
                pieces.append((row, min(row.n_pending, left)))
                left -= pieces[-1][1]
        n_ids, n_cells = lane.n_ids_free, lane.n_cells_free
        while left > 0 and n_ids > 0 and (job := self._jobs.next(lane.ranks)) is not None:
            tokens = job.next_input
            assert tokens is not None
            if len(tokens) > n_cells or (len(tokens) > left and pieces and not self._is_causal):
                break
            row = Row(tokens, job.pooling)
            self._rows[row] = (job, self._jobs.begin(job))
            pieces.append((row, min(len(tokens), left) if self._is_causal else len(tokens)))
            left, n_ids, n_cells = left - pieces[-1][1], n_ids - 1, n_cells - len(tokens)
        return pieces

    def _compute(self, lane: Lane, pieces: list[tuple[Row, int]]) -> None:
        lane.fill(pieces)
        with self._running_lock:
            lane.abort.clear()
            self._running = lane
        started = time.perf_counter()
        try:
            done = lane.run()
        finally:
            with self._running_lock:
                self._running = None
        if done is None:
            return
        n_tokens = sum(n for _, n in pieces)
        self._learn((time.perf_counter() - started) / n_tokens)
        self.n_tokens_embedded += n_tokens
        for row in done:
            self._take(row)

    def _learn(self, per_token_s: float) -> None:
        old = self._per_token_s
        self._per_token_s = per_token_s if old is None else old + _COST_WEIGHT * (per_token_s - old)

    def _take(self, row: Row) -> None:
        job, index = self._rows.pop(row)
        job.vectors[index] = row.result
        job.n_left -= 1
        self.n_inputs_embedded += 1
        if job.n_left == 0:
            self._end(job, "done")

    def _end(self, job: VectorJob, reason: VectorsReason, error: ErrorInfo | None = None) -> None:
        self._jobs.remove(job)
        for row in [row for row, (owner, _) in self._rows.items() if owner is job]:
            del self._rows[row]
            if job.ranks in self._lanes:
                self._lanes[job.ranks].drop(row)
        self.n_finished += 1
        self.n_cancelled += reason == "cancelled"
        event = VectorsEvent(request_id=job.request_id, reason=reason, error=error)
        if reason == "done":
            event = VectorsEvent(
                request_id=job.request_id,
                n_tokens=tuple(map(len, job.inputs)),
                width=job.vectors.shape[1],
                data=job.vectors.tobytes(),
            )
        try:
            job.sink(event)
        except Exception:
            log.exception("a sink failed")

    def _drop_lane(self, lane: Lane) -> None:
        del self._lanes[lane.ranks]
        lane.close()

    def _give_back(self) -> None:
        for lane in list(self._lanes.values()):
            if lane.n_cells > self._n_cells(0):
                self._drop_lane(lane)


def _n_batch(model: Model, n_ctx: int) -> int:
    """Return the tokens of a batch on a model that generates: fewer where the vocabulary is large."""
    n = MAX_LOGITS_BYTES // (4 * max(model.vocab.n_tokens, 1))
    return min(max(n, N_BATCH_LEAST), N_BATCH, n_ctx)
