"""A context: the KV cache, the compute graph and its results. One thread at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelLoadFailed
from localllm.llama.adapter import LoraAdapter
from localllm.llama.batch import Batch
from localllm.llama.callbacks import AbortFlag, EvalCallback
from localllm.llama.library import last_log_errors, library
from localllm.llama.memory import KVMemory
from localllm.llama.model import Model
from localllm.llama.types import ggml_type_id

DECODE_OK = 0
DECODE_NO_ROOM = 1
DECODE_ABORTED = 2


@dataclass(frozen=True)
class ContextParams:
    """How to make a context; counts are of tokens."""

    n_ctx: int
    n_batch: int = 2048
    n_ubatch: int = 512
    n_seq_max: int = 1
    n_outputs_max: int | None = None
    """Most logits rows of one batch; None is as many as there are sequences. Each costs n_vocab × 4 bytes."""
    n_threads: int = 4
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    kv_unified: bool = True
    embeddings: bool = False


class Context:
    """A context of a model. Close it before the model."""

    def __init__(
        self,
        model: Model,
        params: ContextParams,
        *,
        abort_flag: AbortFlag | None = None,
        eval_callback: EvalCallback | None = None,
    ) -> None:
        """Allocate the KV cache and the compute buffers.

        Raises:
            ModelLoadFailed: llama.cpp could not make the context; the message gives its reason.
        """
        self._lib = library()
        self._keep_alive = (abort_flag, eval_callback, model)
        last_log_errors(clear=True)
        self._handle: Any = self._lib.llama_init_from_model(
            model.handle, self._c_params(params, abort_flag, eval_callback)
        )
        if not self._handle:
            reason = (last_log_errors(clear=True) or ["no reason given"])[0]
            raise ModelLoadFailed(
                f"llama.cpp cannot make a context of {params.n_ctx} tokens: {reason}",
                hint="Try a smaller --n-ctx or another --kv-type.",
            )
        self.model = model
        self.memory = KVMemory(self._lib.llama_get_memory(self._handle))
        self._row = ctypes.c_float * model.vocab.n_tokens
        self._decode = self._lib.llama_decode
        self._logits_ith = self._lib.llama_get_logits_ith

    def _c_params(self, params: ContextParams, abort: AbortFlag | None, eval_cb: EvalCallback | None) -> Any:
        c = self._lib.llama_context_default_params()
        c.n_ctx = params.n_ctx
        c.n_batch = params.n_batch
        c.n_ubatch = params.n_ubatch
        c.n_seq_max = params.n_seq_max
        c.n_outputs_max = max(params.n_outputs_max or params.n_seq_max, params.n_seq_max)
        c.n_threads = c.n_threads_batch = params.n_threads
        c.type_k = ggml_type_id(params.kv_type_k)
        c.type_v = ggml_type_id(params.kv_type_v)
        c.kv_unified = params.kv_unified
        c.embeddings = params.embeddings
        c.no_perf = True
        if abort is not None:
            c.abort_callback = abort.callback
            c.abort_callback_data = abort.data
        if eval_cb is not None:
            c.cb_eval = eval_cb.callback
        return c

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise RuntimeError("the context is closed")
        return self._handle

    @property
    def n_ctx(self) -> int:
        """Cells, which llama.cpp may have rounded up."""
        return int(self._lib.llama_n_ctx(self.handle))

    @property
    def n_batch(self) -> int:
        return int(self._lib.llama_n_batch(self.handle))

    def decode(self, batch: Batch) -> int:
        """Evaluate a batch.

        Returns:
            DECODE_OK; DECODE_NO_ROOM with the memory unchanged; DECODE_ABORTED with the finished micro-batches kept;
            a negative number for a failure.
        """
        code: int = self._decode(self._handle, batch.struct)
        return code

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return the logits of the batch's `index`-th token: [n_vocab] float32.

        The array is llama.cpp's own memory: a sampler sees what is written to it; the next decode overwrites it.
        """
        pointer = self._logits_ith(self._handle, index)
        row: Any = self._row.from_address(ctypes.addressof(pointer.contents))
        logits: NDArray[np.float32] = np.frombuffer(row, dtype=np.float32)
        return logits

    def save_sequence(self, seq_id: int) -> NDArray[np.uint8]:
        """Copy a sequence's cells out of the cache, bit for bit: [n_bytes] uint8."""
        size = self._lib.llama_state_seq_get_size(self.handle, seq_id)
        data = np.empty(size, dtype=np.uint8)
        written = self._lib.llama_state_seq_get_data(self.handle, _bytes_pointer(data), size, seq_id)
        return data[:written]

    def restore_sequence(self, seq_id: int, data: NDArray[np.uint8]) -> bool:
        """Put saved cells back under a sequence id, in cells of its own; False if there is no room or no match."""
        read: int = self._lib.llama_state_seq_set_data(self.handle, _bytes_pointer(data), data.size, seq_id)
        return read == data.size

    def set_adapters(self, adapters: Sequence[tuple[LoraAdapter, float]]) -> None:
        """Apply exactly these LoRA adapters, each with its scale, to every sequence of the context."""
        n = len(adapters)
        handles = (ctypes.c_void_p * n)(*(adapter.handle for adapter, _ in adapters))
        scales = (ctypes.c_float * n)(*(scale for _, scale in adapters))
        if self._lib.llama_set_adapters_lora(self.handle, handles, n, scales) != 0:
            raise ModelLoadFailed("llama.cpp refused the LoRA adapters.", hint="Were they made for this model?")

    def close(self) -> None:
        """Free the cache and the buffers; closing twice is harmless."""
        if self._handle:
            self._lib.llama_free(self._handle)
            self._handle = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _bytes_pointer(data: NDArray[np.uint8]) -> Any:
    return ctypes.cast(data.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
