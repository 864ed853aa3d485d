"""One step on the context: fill the batch, decode, and read what came out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from localllm.engine.adapters import Adapters, AdapterSet
from localllm.engine.cells import CellPool
from localllm.engine.scheduler import StepPlan
from localllm.engine.sequence import Sequence
from localllm.engine.speculation.lookahead import LookaheadStep
from localllm.errors import DecodeFailed
from localllm.llama import AbortFlag, Batch, Context
from localllm.llama.context import DECODE_ABORTED, DECODE_NO_ROOM, DECODE_OK


class Runner:
    """Evaluates step plans. Cells must be free before; they are counted here.

    Args:
        context: the engine's.
        pool: of its cells.
        adapters: that were loaded.
        abort: the context's.
        has_newcomers: whether somebody has come since the step was planned; each calls `make_way` after coming.
    """

    def __init__(
        self,
        context: Context,
        pool: CellPool,
        adapters: Adapters,
        abort: AbortFlag,
        has_newcomers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._context = context
        self._pool = pool
        self._adapters = adapters
        self._applied: AdapterSet = ()
        self._abort = abort
        self._has_newcomers = has_newcomers
        self._batch = Batch(context.n_batch)
        self._abort_lock = threading.Lock()
        self._abortable: int | None = None
        self._young_until = 0.0
        self.decode_s = 0.0
        """Seconds inside llama_decode during the last run."""
        self.has_switched = False
        """Whether the last run was the first with its adapters; llama.cpp then reserves its graphs anew."""
        self.was_aborted = False
        """Whether the last run ended because it was asked to."""

    def run(self, plan: StepPlan, young_s: float = 0.0, *, may_abort: bool = True) -> list[tuple[Sequence, int]] | None:
        """Evaluate a plan and advance its sequences.

        Args:
            plan: what to evaluate.
            young_s: how long a newcomer may end the run, to join it when it is begun anew.
            may_abort: False where cells have been moved since the last run. llama.cpp rotates their keys first thing
                in this one, layer by layer; interrupted, it would begin again with those that it has rotated.

        Returns:
            The sequences that have a token to choose, each with the index of its logits, those of its draft's tokens
            following, or those of its branches and window (see `LookaheadStep`); None if llama.cpp found no room, or
            the run was aborted, and nothing has changed. The cells of drafts are the pool's, but not yet the
            sequences' `n_past`.

        Raises:
            DecodeFailed: llama.cpp failed; the sequences of the plan are lost.
        """
        outputs = self._fill(plan)
        self._switch(plan.adapters)
        started = time.perf_counter()
        code = self._decode(plan, young_s) if may_abort else self._context.decode(self._batch)
        self.decode_s = time.perf_counter() - started
        self.was_aborted = code == DECODE_ABORTED
        if code in (DECODE_NO_ROOM, DECODE_ABORTED):
            self._undo(plan)
            return None
        if code != DECODE_OK:
            raise DecodeFailed(f"llama.cpp failed to evaluate a batch (code {code}).", hint="Try the request again.")
        for sequence, n in plan:
            sequence.n_past += n
        return outputs

    def abort(self, request_id: int) -> None:
        """End the decode that is running now, if it carries nothing but this request. Any thread may call it."""
        with self._abort_lock:
            if self._abortable == request_id:
                self._abort.set()

    def make_way(self) -> None:
        """End the decode that is running now, if it is young. Any thread may call it."""
        with self._abort_lock:
            if time.perf_counter() < self._young_until:
                self._abort.set()

    def _switch(self, adapters: AdapterSet) -> None:
        self.has_switched = adapters != self._applied
        if self.has_switched:
            self._adapters.apply(self._context, adapters)
            self._applied = adapters

    def _fill(self, plan: StepPlan) -> list[tuple[Sequence, int]]:
        batch, pool = self._batch, self._pool
        batch.clear()
        outputs = []
        for sequence in plan.streams:
            if (window := plan.windows.get(sequence.request_id)) is not None:
                outputs.append((sequence, self._add_window(sequence, window)))
                continue
            draft = plan.drafts.get(sequence.request_id, [])
            pool.grow(sequence.seq_id, 1 + len(draft))
            index = batch.add(sequence.tokens[-1], sequence.n_cells, sequence.seq_id, wants_logits=True)
            if draft:
                batch.add_outputs(draft, sequence.n_cells + 1, sequence.seq_id)
            outputs.append((sequence, index))
        for sequence, n in plan.chunks:
            pool.grow(sequence.seq_id, n)
            is_last = n == sequence.n_pending
            tokens = sequence.tokens[sequence.n_past : sequence.n_past + n]
            index = batch.add_run(tokens, sequence.n_cells, sequence.seq_id, last_wants_logits=is_last)
            if is_last:
                outputs.append((sequence, index))
        return outputs

    def _add_window(self, sequence: Sequence, window: LookaheadStep) -> int:
        ids = self._pool.fork(sequence.seq_id, window.n_ids, window.n_tokens)
        self._pool.grow(sequence.seq_id, 1)
        return window.fill(self._batch, sequence.tokens[-1], sequence.n_cells, sequence.seq_id, ids)

    def _decode(self, plan: StepPlan, young_s: float) -> int:
        if plan.streams:
            return self._context.decode(self._batch)
        with self._abort_lock:
            self._abort.clear()
            self._abortable = plan.chunks[0][0].request_id if len(plan.chunks) == 1 else None
            self._young_until = time.perf_counter() + young_s
            is_overtaken = young_s > 0 and self._has_newcomers()
        try:
            return DECODE_ABORTED if is_overtaken else self._context.decode(self._batch)
        finally:
            with self._abort_lock:
                self._abortable = None
                self._young_until = 0.0
                self._abort.clear()

    def _undo(self, plan: StepPlan) -> None:
        for sequence, _ in plan:
            self._pool.shrink(sequence.seq_id, sequence.n_cells)
