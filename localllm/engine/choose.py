"""Choosing one sequence's next token from its logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from localllm.engine.events import TokenEvent, TokenLogprob
from localllm.engine.sequence import Sequence
from localllm.llama import Context, Vocab


def choose_token(context: Context, vocab: Vocab, sequence: Sequence, index: int) -> tuple[int, TokenEvent]:
    """Choose the next token and describe it. Logprobs are of the model's own distribution, before grammar and sampling.

    Args:
        context: whose last batch has this sequence's logits at `index`.
        vocab: of the model.
        sequence: whose chain and constraint decide.
        index: of the token in the batch.
    """
    n_logprobs = sequence.request.n_logprobs
    before = None if n_logprobs is None else log_softmax(context.logits(index))
    if sequence.constraint is not None:
        sequence.constraint.mask_logits(context.logits(index))
    chain = sequence.chain
    token = int(context.logits(index).argmax()) if chain is None else chain.sample(context, index)
    if sequence.constraint is not None:
        sequence.constraint.accept(token)
    piece = vocab.piece(token, special=token in sequence.request.visible_tokens)
    if before is None:
        return token, TokenEvent(sequence.request_id, token, piece)
    return token, TokenEvent(
        sequence.request_id,
        token,
        piece,
        float(before[token]),
        top_logprobs(before, n_logprobs or 0, vocab),
    )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return natural-log probabilities: [n_vocab] float64 of [n_vocab] float32 logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def top_logprobs(logprobs: NDArray[np.float64], n: int, vocab: Vocab) -> tuple[TokenLogprob, ...]:
    """Return the `n` most likely tokens, the most likely first."""
    if n == 0:
        return ()
    top = np.argpartition(logprobs, -n)[-n:]
    top = top[np.argsort(-logprobs[top], kind="stable")]
    return tuple(TokenLogprob(int(t), vocab.piece(int(t)), float(logprobs[t])) for t in top)
