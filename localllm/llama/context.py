"""A context: the KV cache, the compute graph and its results. One thread at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from localllm.errors import AllocationFailed, LocalLLMError, ModelLoadFailed
from localllm.llama.adapter import LoraAdapter
from localllm.llama.batch import Batch
from localllm.llama.buffers import parse_buffers
from localllm.llama.callbacks import AbortFlag, EvalCallback
from localllm.llama.library import first_log_error, kept_log, last_log_errors, library, path_bytes, says_no_memory
from localllm.llama.memory import KVMemory
from localllm.llama.model import Model
from localllm.llama.types import ggml_type_id

DECODE_OK = 0
DECODE_NO_ROOM = 1
DECODE_ABORTED = 2

Pooling = Literal["model", "none", "mean", "cls", "last", "rank"]
_POOLING: dict[Pooling, int] = {"model": -1, "none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}

_LOGITS_ITH = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
"""llama_get_logits_ith, whose result is a number: a ctypes pointer and an array made of it cost 25 µs a token."""


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
    flash_attention: bool | None = None
    """None lets llama.cpp decide; quantized V needs it."""
    embeddings: bool = False
    """Embeddings are computed beside the logits."""
    pooling: Pooling = "model"
    """How a sequence's embeddings become one; "model" takes the model's own way."""

    @property
    def n_outputs(self) -> int:
        """Rows set aside. llama.cpp pools over outputs, and ends the process if not every token can be one."""
        return self.n_batch if self.embeddings else max(self.n_outputs_max or self.n_seq_max, self.n_seq_max)


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
            AllocationFailed: llama.cpp did not get the memory.
            ModelLoadFailed: it could not make the context; the message gives its reason.
        """
        self._lib = library()
        self._abort_flag = abort_flag
        self._eval_callback = eval_callback
        last_log_errors(clear=True)
        with kept_log() as log_lines:
            self._handle: Any = self._lib.llama_init_from_model(
                model.handle, self._c_params(params, abort_flag, eval_callback)
            )
        if not self._handle:
            kind = AllocationFailed if says_no_memory(last_log_errors()) else ModelLoadFailed
            raise kind(
                f"llama.cpp cannot make a context of {params.n_ctx} tokens: {first_log_error()}",
                hint="Try a smaller --n-ctx or another --kv-type.",
            )
        self.model = model
        self.n_batch = int(self._lib.llama_n_batch(self._handle))
        """Tokens of a batch at most."""
        self.buffers = parse_buffers(log_lines)
        """What was allocated, as llama.cpp logged it."""
        memory = self._lib.llama_get_memory(self._handle)
        self.has_memory = bool(memory)
        """False for an encoder, which keeps nothing between batches; `memory` cannot be used then."""
        self.memory = KVMemory(memory)
        self._row = ctypes.c_float * model.vocab.n_tokens
        self._decode = self._lib.llama_decode
        self._logits_address = _LOGITS_ITH(_address(self._lib.llama_get_logits_ith))
        self._rows: dict[int, NDArray[np.float32]] = {}
        self.n_outputs_max = params.n_outputs

    def _c_params(self, params: ContextParams, abort: AbortFlag | None, eval_cb: EvalCallback | None) -> Any:
        c = self._lib.llama_context_default_params()
        c.n_ctx = params.n_ctx
        c.n_batch = params.n_batch
        c.n_ubatch = params.n_ubatch
        c.n_seq_max = params.n_seq_max
        c.n_outputs_max = params.n_outputs
        c.n_threads = c.n_threads_batch = params.n_threads
        c.type_k = ggml_type_id(params.kv_type_k)
        c.type_v = ggml_type_id(params.kv_type_v)
        c.kv_unified = params.kv_unified
        c.flash_attn_type = -1 if params.flash_attention is None else int(params.flash_attention)
        c.embeddings = params.embeddings
        c.pooling_type = _POOLING[params.pooling]
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
    def kv_allocated_bytes(self) -> int:
        """Size of the KV cache, each device's part rounded to a hundredth of a MiB."""
        return sum(buffer.n_bytes for buffer in self.buffers if buffer.use == "KV")

    @property
    def n_ctx(self) -> int:
        """Cells, which llama.cpp may have rounded up."""
        return int(self._lib.llama_n_ctx(self.handle))

    def decode(self, batch: Batch) -> int:
        """Evaluate a batch.

        Returns:
            DECODE_OK; DECODE_NO_ROOM with the memory unchanged; DECODE_ABORTED with the finished micro-batches kept;
            a negative number for a failure.

        Raises:
            ValueError: more tokens want logits than `n_outputs_max`, over which llama.cpp would end the process.
        """
        if batch.n_outputs > self.n_outputs_max:
            raise ValueError(f"{batch.n_outputs} tokens want logits; {self.n_outputs_max} rows were set aside")
        if self._eval_callback is None:
            code: int = self._decode(self.handle, batch.struct)
            return code
        with self._eval_callback.holding_interrupts():
            code = self._decode(self.handle, batch.struct)
        self._eval_callback.reraise()
        return code

    def logits(self, index: int) -> NDArray[np.float32]:
        """Return the logits of the batch's `index`-th token: [n_vocab] float32.

        The array is llama.cpp's own memory: a sampler sees what is written to it; the next decode overwrites it.

        Raises:
            ValueError: that token did not ask for logits.
        """
        address = self._logits_address(self.handle, index)
        if address is None:
            raise ValueError(f"token {index} of the batch has no logits")
        row = self._rows.get(address)
        if row is None:
            memory: Any = self._row.from_address(address)
            row = self._rows[address] = np.frombuffer(memory, dtype=np.float32)
        return row

    def logits_rows(self, batch: Batch) -> NDArray[np.float32]:
        """Return all logits of the batch, which must be the last one decoded: [batch.n_outputs, n_vocab] float32.

        The rows are those of the tokens that asked for logits, in their order. The array is llama.cpp's own memory; the
        next decode overwrites it.

        Raises:
            ValueError: no token asked for logits.
        """
        if not batch.n_outputs:
            raise ValueError("no token of the batch has logits")
        pointer = self._lib.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(pointer, shape=(batch.n_outputs, self.model.vocab.n_tokens))

    def saved_size(self, seq_id: int) -> int:
        """Return the bytes that the saved cells of a sequence take."""
        size: int = self._lib.llama_state_seq_get_size(self.handle, seq_id)
        return size

    def save_sequence(self, seq_id: int, room: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Copy a sequence's cells out of the cache, bit for bit: [n_bytes] uint8.

        Args:
            seq_id: of the sequence.
            room: where to put them if it is large enough; fresh memory takes ten times longer to fill.
        """
        size = self.saved_size(seq_id)
        data = room if room is not None and room.size >= size else np.empty(size, dtype=np.uint8)
        written = self._lib.llama_state_seq_get_data(self.handle, _bytes_pointer(data), size, seq_id)
        return data[:written]

    def restore_sequence(self, seq_id: int, data: NDArray[np.uint8]) -> bool:
        """Put saved cells back under a sequence id, in cells of its own; False if there is no room or no match."""
        read: int = self._lib.llama_state_seq_set_data(self.handle, _bytes_pointer(data), data.size, seq_id)
        return read == data.size

    def save_sequence_file(self, path: Path, seq_id: int, tokens: Sequence[int]) -> int:
        """Write a sequence's cells and the tokens they hold to a file; return its size in bytes.

        Raises:
            LocalLLMError: the file cannot be written.
        """
        ids = (ctypes.c_int32 * len(tokens))(*tokens)
        last_log_errors(clear=True)
        size: int = self._lib.llama_state_seq_save_file(self.handle, path_bytes(path), seq_id, ids, len(tokens))
        if size == 0:
            raise LocalLLMError(f"Cannot write {path}: {first_log_error()}", hint="Is the folder there, and writable?")
        return size

    def load_sequence_file(self, path: Path, seq_id: int) -> list[int] | None:
        """Put the cells of a file back under a sequence id; return its tokens, or None if they do not fit here."""
        capacity = self.n_ctx
        ids = (ctypes.c_int32 * capacity)()
        n = ctypes.c_size_t()
        read = self._lib.llama_state_seq_load_file(
            self.handle, path_bytes(path), seq_id, ids, capacity, ctypes.byref(n)
        )
        return list(ids[: n.value]) if read else None

    def embedding(self, index: int) -> NDArray[np.float32]:
        """Copy the embedding of the batch's `index`-th token: [n_embd] float32.

        Raises:
            ValueError: that token has none; the context makes none, or pools them.
        """
        return self._embedding(self._lib.llama_get_embeddings_ith(self.handle, index), f"token {index}")

    def pooled_embedding(self, seq_id: int) -> NDArray[np.float32]:
        """Copy the pooled embedding of a sequence of the last batch: [n_embd] float32.

        Raises:
            ValueError: there is none; the context makes none, or does not pool.
        """
        return self._embedding(self._lib.llama_get_embeddings_seq(self.handle, seq_id), f"sequence {seq_id}")

    def token_embeddings(self, n_tokens: int) -> NDArray[np.float32]:
        """Return the embeddings of all `n_tokens` tokens of the last batch: [n_tokens, n_embd] float32.

        The array is llama.cpp's own memory; the next decode overwrites it.

        Raises:
            ValueError: the context makes none, or pools them.
        """
        pointer = self._lib.llama_get_embeddings(self.handle)
        if not pointer:
            raise ValueError("the batch has no embeddings")
        return np.ctypeslib.as_array(pointer, shape=(n_tokens, self.model.n_embd_out))

    def rank_scores(self, seq_id: int) -> NDArray[np.float32]:
        """Copy what the model's output layer for ranking says of a sequence of the last batch: [n_cls_out] float32.

        Raises:
            ValueError: there is nothing; the pooling is not "rank".
        """
        pointer = self._lib.llama_get_embeddings_seq(self.handle, seq_id)
        if not pointer:
            raise ValueError(f"sequence {seq_id} has no score")
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_cls_out,)).copy()

    def _embedding(self, pointer: Any, what: str) -> NDArray[np.float32]:
        if not pointer:
            raise ValueError(f"{what} has no embedding")
        return np.ctypeslib.as_array(pointer, shape=(self.model.n_embd_out,)).copy()

    def set_n_threads(self, decode: int, prefill: int | None = None) -> None:
        """Use this many threads from the next decode on: for single tokens, and for batches."""
        self._lib.llama_set_n_threads(self.handle, decode, decode if prefill is None else prefill)

    @property
    def n_threads(self) -> int:
        return int(self._lib.llama_n_threads(self.handle))

    def set_control_vector(self, vector: NDArray[np.float32] | None, layers: tuple[int, int] | None = None) -> None:
        """Add a vector to the residual stream after each layer, for every sequence; None ends it.

        Args:
            vector: [n_layer - 1, n_embd] float32, the first row for layer 1; layer 0 cannot have one.
            layers: first and last layer that get theirs; None is all.

        Raises:
            ValueError: the shape is another.
        """
        n_layer, n_embd = self.model.n_layer, self.model.n_embd
        if vector is None:
            self._lib.llama_set_adapter_cvec(self.handle, None, 0, n_embd, -1, -1)
            return
        if vector.shape != (n_layer - 1, n_embd):
            raise ValueError(f"a control vector of shape {vector.shape}; this model takes {(n_layer - 1, n_embd)}")
        data = np.ascontiguousarray(vector, dtype=np.float32)
        pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        first, last = layers or (1, n_layer - 1)
        if self._lib.llama_set_adapter_cvec(self.handle, pointer, data.size, n_embd, first, last) != 0:
            raise ModelLoadFailed("llama.cpp refused the control vector.", hint="Was it made for this model?")

    def set_adapters(self, adapters: Sequence[tuple[LoraAdapter, float]]) -> None:
        """Apply exactly these LoRA adapters, each with its scale, to every sequence of the context."""
        n = len(adapters)
        handles = (self._lib.llama_adapter_lora_p_ctypes * n)(*(adapter.handle for adapter, _ in adapters))
        scales = (ctypes.c_float * n)(*(scale for _, scale in adapters))
        if self._lib.llama_set_adapters_lora(self.handle, handles, n, scales) != 0:
            raise ModelLoadFailed("llama.cpp refused the LoRA adapters.", hint="Were they made for this model?")

    def close(self) -> None:
        """Free the cache and the buffers; closing twice is harmless."""
        if self._handle:
            self.memory.detach()
            self._lib.llama_free(self._handle)
            self._handle = None

    def __enter__(self) -> Context:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _bytes_pointer(data: NDArray[np.uint8]) -> Any:
    return ctypes.cast(data.ctypes.data, ctypes.POINTER(ctypes.c_uint8))


def _address(function: Any) -> int:
    """Return where a C function is."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0
