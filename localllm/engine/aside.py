"""Computing a long prompt beside running streams, in a context of its own, with pauses for them.

On a CPU, a step that keeps streams smooth has room for ten or twenty prompt tokens, and llama.cpp's attention costs
twice as much in chunks below 64 tokens as in the tiles it uses above. So the prompt is computed in large batches in a
second context, whose graph is interrupted every few operations; each time, the engine may run the streams in the first
context. The prompt's cells then move over, bit for bit.

The second context lives only while it is needed. It holds one sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from localllm.engine.cost import StepCost
from localllm.engine.sequence import Sequence
from localllm.errors import DecodeFailed
from localllm.hardware.types import LoadPlan
from localllm.llama import AbortFlag, Batch, Context, ContextParams, EvalCallback, Model, TensorView
from localllm.llama.context import DECODE_ABORTED, DECODE_OK

MIN_TOKENS = 192
"""Shorter prompts are chunked: moving a prompt costs some tens of milliseconds."""
TILE_TOKENS = 64
"""llama.cpp's CPU attention works in tiles from this many tokens a batch on (ggml-cpu, GGML_FA_TILE_Q)."""
N_BATCH = 256
_MIN_NODES, _MAX_NODES = 3, 64
"""Operations between two chances to pause. Each chance costs about 100 µs, so they are as rare as time allows."""


class Aside:
    """One prompt's context. Close it when the prompt is done.

    Args:
        model: of the engine.
        plan: the engine's; KV types, threads and layers are taken from it.
        n_tokens: the cells to make.
        pause: called between operations of a running batch; it may use other contexts, not this one. It returns the
            seconds until it wants to be called again.
    """

    def __init__(self, model: Model, plan: LoadPlan, n_tokens: int, pause: Callable[[], float]) -> None:
        self._pause = pause
        self._n_nodes = self._n_left = _MIN_NODES
        self._node_s = 0.0
        self._resumed = time.perf_counter()
        self._abort = AbortFlag()
        params = ContextParams(
            n_ctx=-(-n_tokens // 256) * 256,
            n_batch=N_BATCH,
            n_ubatch=N_BATCH,
            n_threads=plan.n_threads,
            kv_type_k=plan.kv_type_k,
            kv_type_v=plan.kv_type_v,
        )
        eval_callback = EvalCallback(self._wants, self._take)
        self.context = Context(model, params, abort_flag=self._abort, eval_callback=eval_callback)
        self._batch = Batch(N_BATCH)

    def start_from(self, cells: NDArray[np.uint8]) -> bool:
        """Take over the cells of a prefix, saved from the engine's context."""
        return self.context.restore_sequence(0, cells)

    def prefill(self, sequence: Sequence, n_past: int, on_batch: Callable[[int], None]) -> int | None:
        """Compute all pending tokens.

        Args:
            sequence: its tokens are read, nothing is changed.
            n_past: how many of its tokens have cells here.
            on_batch: called with the number of tokens that have cells now.

        Returns:
            The index of the last token's logits, or None if `abort` was called.

        Raises:
            DecodeFailed: llama.cpp failed.
        """
        tokens, index = sequence.tokens[:], -1
        while n_past < len(tokens):
            chunk = tokens[n_past : n_past + N_BATCH]
            self._batch.clear()
            is_last = n_past + len(chunk) == len(tokens)
            index = self._batch.add_run(chunk, n_past, 0, last_wants_logits=is_last)
            code = self.context.decode(self._batch)
            if code == DECODE_ABORTED:
                return None
            if code != DECODE_OK:
                raise DecodeFailed(f"llama.cpp failed to evaluate a prompt (code {code}).", hint="Try it again.")
            n_past += len(chunk)
            on_batch(n_past)
        return index

    def abort(self) -> None:
        """End the running batch at the next operation."""
        self._abort.set()

    def close(self) -> None:
        self.context.close()

    def _wants(self, _tensor: TensorView) -> bool:
        self._n_left -= 1
        return self._n_left <= 0

    def _take(self, _tensor: TensorView) -> None:
        """Pause, and aim half-way to the time that the next pause is wanted: operations differ in length."""
        node_s = (time.perf_counter() - self._resumed) / self._n_nodes
        self._node_s += 0.1 * (node_s - self._node_s)
        wanted_s = self._pause()
        n = int(0.5 * wanted_s / self._node_s) if self._node_s > 0 else _MIN_NODES
        self._n_nodes = self._n_left = min(max(n, _MIN_NODES), _MAX_NODES)
        self._resumed = time.perf_counter()


class Turns:
    """Says when running streams must have their turn, so that none waits longer than a step may take.

    Both what a turn takes and what passes between two pauses vary; the largest of late is what is reckoned with.
    """

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        self._last_turn = self._last_look = 0.0
        self._turn_s = self._between_looks_s = 0.0

    def begin(self, n_streams: int) -> None:
        """The streams have just had a turn, in an ordinary step."""
        self._last_turn = self._last_look = time.perf_counter()
        self._turn_s, self._between_looks_s = self._cost.decode_s(n_streams), 0.0

    def left_s(self, n_streams: int) -> float:
        """Return the seconds until the streams' turn must begin; 0 or less is now."""
        now = time.perf_counter()
        self._between_looks_s = max(now - self._last_look, 0.7 * self._between_looks_s)
        self._last_look = now
        begin = self._last_turn + self._cost.step_target_s(n_streams) - self._turn_s
        return begin - self._between_looks_s - now

    def run(self, turn: Callable[[], None]) -> None:
        """Give the streams their turn."""
        started = time.perf_counter()
        turn()
        self._last_turn = self._last_look = time.perf_counter()
        self._turn_s = max(self._last_turn - started, 0.8 * self._turn_s)
