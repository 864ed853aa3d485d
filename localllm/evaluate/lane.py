"""One model with one set of settings, evaluating chunk after chunk in a context of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.errors import DecodeFailed, UnsupportedModel
from localllm.llama import Batch, Context, ContextParams, Model

BLOCK_BYTES = 32 * 1024**2
"""Logits of one block, which is decoded and scored before the next; this bounds the memory of long chunks."""
N_ROWS_MIN = 16
N_UBATCH = 512


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a loaded model, and how its context is made."""

    model: Model
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    n_threads: int = 4
    flash_attention: bool | None = None
    """None lets llama.cpp decide, as the app does."""


def n_block_rows(n_vocab: int) -> int:
    """Return how many rows of logits a block has: 170 of 49,152, 55 of 151,936."""
    return min(N_UBATCH, max(N_ROWS_MIN, BLOCK_BYTES // (4 * n_vocab)))


class Lane:
    """The context of a subject.

    Args:
        subject: what to evaluate.
        n_ctx: tokens of a chunk.
        n_rows: most tokens that want logits in one batch.

    Raises:
        UnsupportedModel: the model makes no text.
        ModelLoadFailed: llama.cpp cannot make the context.
    """

    def __init__(self, subject: Subject, n_ctx: int, n_rows: int) -> None:
        n_batch = min(n_ctx, N_UBATCH)
        self._batch = Batch(n_batch)
        self._context = Context(
            subject.model,
            ContextParams(
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_ubatch=n_batch,
                n_outputs_max=n_rows,
                n_threads=subject.n_threads,
                kv_type_k=subject.kv_type_k,
                kv_type_v=subject.kv_type_v,
                flash_attention=subject.flash_attention,
            ),
        )
        if not self._context.has_memory:
            self.close()
            raise UnsupportedModel(
                f"{subject.model.path.name} makes no text: it embeds or ranks it.",
                hint="Choose a model that continues text.",
            )
        self._subject = subject
        self.kv_allocated_bytes = self._context.kv_allocated_bytes
        self.n_evaluated = 0
        self.decode_s = 0.0

    def read(self, tokens: Sequence[int]) -> None:
        """Begin a chunk: forget the last one, and compute the tokens that are only context."""
        self._context.memory.clear()
        size = self._batch.capacity
        for pos in range(0, len(tokens), size):
            self._batch.clear()
            self._batch.add_run(tokens[pos : pos + size], pos, 0, last_wants_logits=False)
            self._decode()

    def logits(self, tokens: Sequence[int], pos: int) -> NDArray[np.float32]:
        """Go on with `tokens`, the first of them at `pos`.

        Returns:
            The logits after each: [n_tokens, n_vocab] float32, in llama.cpp's own memory until the next call.

        Raises:
            DecodeFailed: llama.cpp failed, or a logit is not a number.
        """
        self._batch.clear()
        self._batch.add_outputs(tokens, pos, 0)
        self._decode()
        rows = self._context.logits_rows(self._batch)
        if np.isnan(rows).any():
            raise DecodeFailed(f"{self._name} gives logits that are not numbers.", hint="Try another KV type.")
        return rows

    def _decode(self) -> None:
        started = time.perf_counter()
        code = self._context.decode(self._batch)
        self.decode_s += time.perf_counter() - started
        self.n_evaluated += self._batch.n_tokens
        if code != 0:
            raise DecodeFailed(
                f"llama.cpp failed to evaluate a chunk with {self._name} (code {code}).", hint="Try a smaller --n-ctx."
            )

    @property
    def _name(self) -> str:
        subject = self._subject
        return f"{subject.model.path.name} with KV {subject.kv_type_k}/{subject.kv_type_v}"

    def close(self) -> None:
        """Free the context; closing twice is harmless."""
        self._context.close()
