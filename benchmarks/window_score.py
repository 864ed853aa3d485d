"""The loss of every token of a text in a context that slides, by the engine's own window and cell pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.engine.cells import CellPool
from localllm.engine.context_policy import Window
from localllm.llama import Batch, Context, ContextParams, Model

N_CHUNK = 128
"""Tokens of a decode; each needs a row of logits."""


@dataclass(frozen=True)
class Scored:
    """What the model thought of a text."""

    nll: NDArray[np.float64]
    """Negative log-likelihood of tokens 1, 2, ... in nats, each given those before it: [n_tokens - 1]."""
    n_seen: NDArray[np.int32]
    """How many tokens each of them was predicted from: [n_tokens - 1]."""
    n_evicted: int


@contextmanager
def scoring_context(model: Model, n_ctx: int, n_threads: int) -> Iterator[Context]:
    """Open a context that gives the logits of every token."""
    params = ContextParams(n_ctx=n_ctx, n_batch=N_CHUNK, n_ubatch=N_CHUNK, n_outputs_max=N_CHUNK, n_threads=n_threads)
    with Context(model, params) as context:
        yield context


def score(context: Context, tokens: Sequence[int], window: Window, on_chunk: Callable[[int], None]) -> Scored:
    """Stream a text through a window.

    Args:
        context: made by `scoring_context`; emptied first.
        tokens: of the text.
        window: how it slides; its `n_ctx` is at most the context's.
        on_chunk: called with the number of tokens that have been computed.
    """
    context.memory.clear()
    pool = CellPool(context.memory, context, context.n_ctx, 1)
    seq_id, batch = pool.allocate(), Batch(N_CHUNK)
    nll, n_seen = np.zeros(len(tokens) - 1), np.zeros(len(tokens) - 1, dtype=np.int32)
    n_past = n_evicted = 0
    while n_past < len(tokens) - 1:
        n_cells = pool.length(seq_id)
        chunk = tokens[n_past : min(n_past + min(N_CHUNK, window.n_fitting(n_cells)), len(tokens) - 1)]
        n_gone = window.n_to_evict(n_cells, len(chunk))
        if n_gone:
            pool.slide(seq_id, window.n_head, n_gone)
            n_evicted, n_cells = n_evicted + n_gone, n_cells - n_gone
        pool.grow(seq_id, len(chunk))
        place = slice(n_past, n_past + len(chunk))
        nll[place] = next_losses(context, batch, chunk, n_cells, tokens[n_past + 1 : n_past + len(chunk) + 1])
        n_seen[place] = np.arange(n_cells + 1, n_cells + len(chunk) + 1)
        n_past += len(chunk)
        on_chunk(n_past)
    return Scored(nll, n_seen, n_evicted)


def recomputed_loss(context: Context, tokens: Sequence[int], target: int) -> float:
    """Return the loss of one token, in nats, after computing those before it from nothing."""
    context.memory.clear()
    batch = Batch(N_CHUNK)
    for start in range(0, len(tokens), N_CHUNK):
        batch.clear()
        index = batch.add_run(tokens[start : start + N_CHUNK], start, 0, last_wants_logits=True)
        _decode(context, batch)
    return _nll(context.logits(index), target)


def perplexity(nll: NDArray[np.float64]) -> float:
    """Return exp of the mean loss."""
    return math.exp(float(nll.mean()))


def next_losses(context: Context, batch: Batch, chunk: Sequence[int], pos: int, targets: Sequence[int]) -> list[float]:
    """Evaluate a chunk at a position, and return the loss of what comes after each of its tokens."""
    batch.clear()
    first = batch.add_outputs(chunk, pos, 0)
    _decode(context, batch)
    return [_nll(context.logits(first + i), target) for i, target in enumerate(targets)]


def _decode(context: Context, batch: Batch) -> None:
    code = context.decode(batch)
    if code:
        raise RuntimeError(f"llama_decode returned {code}")


def _nll(logits: NDArray[np.float32], target: int) -> float:
    top = float(logits.max())
    return math.log(float(np.exp(logits - top).sum(dtype=np.float64))) + top - float(logits[target])
