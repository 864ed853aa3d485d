"""Computing a long prompt beside running streams, in a context of its own, with pauses for them.

On a CPU, a step that keeps streams smooth has room for ten or twenty prompt tokens, and llama.cpp's attention costs
twice as much in chunks below 64 tokens as in the tiles it uses above. So the prompt is computed in large batches in a
second context, whose graph is interrupted every few operations; each time, the engine may run the streams in the first
context. The prompt's cells then move over, bit for bit.

The second context lives only while it is needed. It holds one sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
_NODES_PER_PAUSE = 3
"""Operations between two chances to pause: at most one of them is a large one."""


class Aside:
    """One prompt's context. Close it when the prompt is done.

    Args:
        model: of the engine.
        plan: the engine's; KV types, threads and layers are taken from it.
        n_tokens: the cells to make.
        pause: called every few operations of a running batch; it may use other contexts, not this one.
    """

    def __init__(self, model: Model, plan: LoadPlan, n_tokens: int, pause: Callable[[], None]) -> None:
        self._pause = pause
        self._n_asked = 0
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
        self._n_asked += 1
        return self._n_asked % _NODES_PER_PAUSE == 0

    def _take(self, _tensor: TensorView) -> None:
        self._pause()
