"""Computing a long prompt beside running streams, in a context of its own, with pauses for them.

On a CPU, a step that keeps streams smooth has room for ten or twenty prompt tokens, and llama.cpp's attention costs
twice as much in chunks below 64 tokens as in the tiles it uses above. So the prompt is computed in large batches in a
second context, whose graph is interrupted every few operations; each time, the engine may run the streams in the first
context. The prompt's cells then move over, bit for bit.

The second context lives only while it is needed. It holds one sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from localllm.engine.pacing import Profile
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
_GIVEN_UP_S = 0.1
_PAGE_BYTES = 4096
_BETWEEN_S = 0.025
"""Seconds from the end of a batch to the first look in the next one: the graph is built anew."""

_Result = TypeVar("_Result")


class Aside:
    """One prompt's context. Close it when the prompt is done.

    Args:
        model: of the engine.
        plan: the engine's; KV types, threads and layers are taken from it.
        n_tokens: the cells to make.
        profile: of the model's batches here, kept from one prompt to the next.
        pause: called between operations, with the seconds until the next such chance; it may use other contexts, not
            this one. It returns the seconds until it wants to be called again, or None to give the prompt up.
        room: for the saved cells; replaced where it is too small.

    Raises:
        OutOfMemory: no room for the context.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        n_tokens: int,
        profile: Profile,
        pause: Callable[[float], float | None],
        room: NDArray[np.uint8],
    ) -> None:
        self._pause = pause
        self._profile = profile
        self._node = self._next_look = 0
        self._abort = AbortFlag()
        self._batch = Batch(N_BATCH)
        params = ContextParams(
            n_ctx=-(-n_tokens // 256) * 256,
            n_batch=N_BATCH,
            n_ubatch=N_BATCH,
            n_threads=plan.n_threads,
            kv_type_k=plan.kv_type_k,
            kv_type_v=plan.kv_type_v,
        )
        self.room = room
        self._n_backed = room.size
        eval_callback = EvalCallback(self._wants, self._take)
        self.context = self._beside(lambda: Context(model, params, abort_flag=self._abort, eval_callback=eval_callback))

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
            The index of the last token's logits, or None if the prompt was given up.

        Raises:
            DecodeFailed: llama.cpp failed.
        """
        tokens, index = sequence.tokens[:], -1
        while n_past < len(tokens):
            chunk = tokens[n_past : n_past + N_BATCH]
            self._batch.clear()
            is_last = n_past + len(chunk) == len(tokens)
            index = self._batch.add_run(chunk, n_past, 0, last_wants_logits=is_last)
            self._node, self._next_look = 0, 1
            self._profile.begin_batch()
            code = self.context.decode(self._batch)
            if code == DECODE_ABORTED:
                return None
            if code != DECODE_OK:
                raise DecodeFailed(f"llama.cpp failed to evaluate a prompt (code {code}).", hint="Try it again.")
            self._profile.end_batch()
            n_past += len(chunk)
            on_batch(n_past)
            if not is_last:
                self._breathe(_BETWEEN_S)
            self._make_room(n_past, len(tokens))
        return index

    def save(self) -> NDArray[np.uint8]:
        """Copy the prompt's cells out."""
        return self.context.save_sequence(0, self.room)

    def close(self) -> None:
        self.context.close()

    def _make_room(self, n_done: int, n_tokens: int) -> None:
        """Have the system back the next share of the room for the saved cells: all at once would be a visible pause."""
        needs = int(self.context.saved_size(0) / n_done * n_tokens) + _PAGE_BYTES
        if self.room.size < needs:
            self.room, self._n_backed = np.empty(needs, dtype=np.uint8), 0
        todo = int(n_done / n_tokens * self.room.size)
        self.room[self._n_backed : todo : _PAGE_BYTES] = 0
        self._n_backed = max(self._n_backed, todo)

    def _beside(self, work: Callable[[], _Result]) -> _Result:
        """Do what may take long on another thread, with pauses meanwhile."""
        with ThreadPoolExecutor(1, "localllm-aside") as helper:
            future = helper.submit(work)
            while not future.done():
                wait([future], timeout=self._breathe(0.0))
            return future.result()

    def _breathe(self, piece_s: float) -> float:
        wanted_s = self._pause(piece_s)
        if wanted_s is None:
            self._abort.set()
            return _GIVEN_UP_S
        return max(wanted_s, 0.0)

    def _wants(self, _tensor: TensorView) -> bool:
        self._node += 1
        return self._node >= self._next_look

    def _take(self, _tensor: TensorView) -> None:
        self._profile.look(self._node)
        wanted_s = self._breathe(self._profile.piece_s)
        self._next_look = self._profile.next_look(wanted_s)
        self._profile.resume()
