"""Choosing one sequence's next token from its logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localllm.engine.events import TokenEvent, TokenLogprob
from localllm.engine.sampling import Greedy
from localllm.engine.sequence import Sequence
from localllm.engine.speculation import rejection
from localllm.engine.speculation.rejection import Distribution
from localllm.llama import Context, Vocab


class Drawn(NamedTuple):
    """A token that a draft model drew."""

    token: int
    odds: Distribution
    """What it was drawn from."""


def choose_token(
    context: Context, vocab: Vocab, sequence: Sequence, index: int, drawn: Drawn | None = None
) -> tuple[int, TokenEvent]:
    """Choose the next token and describe it. Logprobs are of the model's own distribution, before grammar and sampling.

    Args:
        context: whose last batch has this sequence's logits at `index`.
        vocab: of the model.
        sequence: whose chain and constraint decide.
        index: of the token in the batch.
        drawn: what is proposed; it is chosen as often as may be without changing the distribution.
    """
    n_logprobs = sequence.request.n_logprobs
    before = None if n_logprobs is None else log_softmax(context.logits(index))
    if sequence.constraint is not None:
        sequence.constraint.mask_logits(context.logits(index))
    token = _choose(context, sequence, index, drawn)
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


def _choose(context: Context, sequence: Sequence, index: int, drawn: Drawn | None) -> int:
    chain, rng = sequence.chain, sequence.rng
    if isinstance(chain, Greedy):
        return chain.choose(context.logits(index))
    if rng is None:
        return chain.sample(context, index)
    target = Distribution(*chain.distribution(context.logits(index)))
    if drawn is None:
        token = int(target.tokens[rejection.draw(target.p, rng)])
    else:
        token = rejection.choose_token(target, drawn.odds, drawn.token, rng)
    chain.accept(token)
    return token


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
