"""A context that turns token sequences into vectors or scores, several sequences a batch.

It pools itself, so that one context serves every pooling, and so that a sequence may come in pieces: with causal
attention, the mean over a text is the weighted mean over its pieces. An encoder's tokens see the whole text, so a text
is one piece there.

It does not know whose the sequences are, nor when it is their turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.engine.vectors import TextPooling
from localllm.errors import DecodeFailed
from localllm.hardware.types import LoadPlan
from localllm.llama import AbortFlag, Batch, Context, ContextParams, LoraAdapter, Model
from localllm.llama.context import DECODE_ABORTED, DECODE_OK

N_SEQUENCES = 32
"""Most sequences of a batch; each costs a row of logits."""
N_SEQUENCES_RECURRENT = 4
"""... and a whole state where the model is recurrent."""


@dataclass(eq=False, slots=True)
class Row:
    """One sequence on its way to a vector."""

    tokens: Sequence[int]
    pooling: TextPooling | None
    """None asks for a score."""
    n_done: int = 0
    seq_id: int = -1
    result: NDArray[np.float64] | None = None
    """What is pooled so far: [width]."""

    @property
    def n_pending(self) -> int:
        return len(self.tokens) - self.n_done


class Lane:
    """A context and the sequences that are in it.

    Args:
        model: stays the caller's, to be closed after the lane.
        plan: the model's; threads and KV types are taken from it.
        adapters: to apply, each with its scale.
        n_batch: tokens of a batch.
        n_cells: tokens of all open sequences together; at least `n_batch`.
        ranks: whether scores are wanted, not vectors.

    Raises:
        ModelLoadFailed: no room for the context.
    """

    def __init__(
        self,
        model: Model,
        plan: LoadPlan,
        adapters: Sequence[tuple[LoraAdapter, float]] = (),
        *,
        n_batch: int,
        n_cells: int,
        ranks: bool,
    ) -> None:
        self.n_cells, self.ranks = n_cells, ranks
        self.abort = AbortFlag()
        # llama.cpp ends the process where a batch has fewer tokens than there may be sequences.
        n_sequences = min(N_SEQUENCES if model.can_roll_back else N_SEQUENCES_RECURRENT, n_batch)
        self._context = Context(
            model,
            ContextParams(
                n_ctx=n_cells,
                n_batch=n_batch,
                n_ubatch=n_batch,
                n_seq_max=n_sequences,
                n_threads=plan.n_threads,
                kv_type_k=plan.kv_type_k,
                kv_type_v=plan.kv_type_v,
                embeddings=True,
                pooling="rank" if ranks else "none",
            ),
            abort_flag=self.abort,
        )
        if adapters:
            self._context.set_adapters(adapters)
        self._batch = Batch(n_batch)
        self._pieces: list[tuple[Row, int, int]] = []
        self._free_ids = list(range(n_sequences))
        self.open: list[Row] = []
        """Sequences with tokens in the context, or in the batch, and not at their end."""

    @property
    def n_cells_free(self) -> int:
        """Tokens that new sequences may have, the open ones' to their ends set aside."""
        return self.n_cells - sum(len(row.tokens) for row in self.open)

    @property
    def n_ids_free(self) -> int:
        return len(self._free_ids)

    def fill(self, pieces: Sequence[tuple[Row, int]]) -> None:
        """Put the next tokens of each sequence, as many as its number says, into the batch."""
        self._batch.clear()
        self._pieces = []
        for row, n in pieces:
            if row.seq_id < 0:
                row.seq_id = self._free_ids.pop()
                self.open.append(row)
            tokens = row.tokens[row.n_done : row.n_done + n]
            self._pieces.append((row, n, self._batch.add_outputs(tokens, row.n_done, row.seq_id)))

    def run(self) -> list[Row] | None:
        """Compute the batch.

        Returns:
            The sequences that are done, which are not open any more; None if the run was aborted, and nothing changed.

        Raises:
            DecodeFailed: llama.cpp failed; the lane cannot be used any more.
        """
        code = self._context.decode(self._batch)
        if code == DECODE_ABORTED:
            return None
        if code != DECODE_OK:
            raise DecodeFailed(f"llama.cpp failed to evaluate a batch (code {code}).", hint="Try the request again.")
        self._collect()
        done = [row for row, _, _ in self._pieces if not row.n_pending]
        for row in done:
            self.drop(row)
        return done

    def drop(self, row: Row) -> None:
        """Forget a sequence, if it is open."""
        if row not in self.open:
            return
        if self._context.has_memory:
            self._context.memory.remove(row.seq_id)
        self._free_ids.append(row.seq_id)
        self.open.remove(row)

    def close(self) -> None:
        self._context.close()

    def _collect(self) -> None:
        embeddings = None if self.ranks else self._context.token_embeddings(self._batch.n_tokens)
        for row, n, first in self._pieces:
            if embeddings is not None:
                _pool(row, embeddings[first : first + n])
            elif n == row.n_pending:
                row.result = self._context.rank_scores(row.seq_id)[:1].astype(np.float64)
            row.n_done += n


def _pool(row: Row, piece: NDArray[np.float32]) -> None:
    """Add the embeddings of a sequence's next tokens, [n, width], to its result."""
    if row.pooling == "mean":
        # In float64: the sum of many float32 would depend on how they were cut into pieces.
        share = piece.sum(axis=0, dtype=np.float64) / len(row.tokens)
        row.result = share if row.result is None else row.result + share
    elif row.pooling == "last":
        row.result = piece[-1].astype(np.float64)
    elif row.result is None:
        row.result = piece[0].astype(np.float64)
