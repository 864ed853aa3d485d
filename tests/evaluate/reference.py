"""Perplexity and divergence the slow way: one token at a time, one row at a time, the formulas as in the textbook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from localllm.evaluate import Chunks, Subject
from localllm.llama import Batch, Context, ContextParams


def probabilities(subject: Subject, tokens: Sequence[int]) -> np.ndarray:
    """Return each token's distribution over the next: [n_tokens, n_vocab] float64, from one-token batches."""
    params = ContextParams(n_ctx=len(tokens), n_threads=1, kv_type_k=subject.kv_type_k, kv_type_v=subject.kv_type_v)
    batch, rows = Batch(1), []
    with Context(subject.model, params) as context:
        for pos, token in enumerate(tokens):
            batch.clear()
            batch.add(token, pos, 0, wants_logits=True)
            assert context.decode(batch) == 0
            e = np.exp(context.logits(0).astype(np.longdouble))
            rows.append(e / e.sum())
    return np.array(rows, dtype=np.float64)


def scored(chunks: Chunks) -> list[tuple[int, int]]:
    """Return (chunk, position) of every token whose probability counts: those after the middle."""
    return [(chunk, pos) for chunk in range(chunks.n_chunks) for pos in range(chunks.n_ctx // 2 + 1, chunks.n_ctx)]


def next_token_rows(subject: Subject, chunks: Chunks) -> tuple[np.ndarray, np.ndarray]:
    """Return the distributions that predict the scored tokens, [n, n_vocab], and these tokens, [n]."""
    p = [probabilities(subject, tokens) for tokens in chunks.tokens]
    rows = np.array([p[chunk][pos - 1] for chunk, pos in scored(chunks)])
    return rows, np.array([chunks.tokens[chunk][pos] for chunk, pos in scored(chunks)])
