"""KL divergence along one text, token by token: how differently two models see an answer that one of them gave.

Exact: of the whole vocabulary, on the same tokens, each model in a context of its own. `compare` sums up long texts in
chunks; this keeps every token, and reads what is before the answer as context only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain

import numpy as np

from localllm.errors import RequestError
from localllm.evaluate.lane import Lane, Subject, n_block_rows
from localllm.evaluate.scores import N_ROWS, Floats, divergence, log_softmax, target_log_probs
from localllm.evaluate.vocabulary import check_same_vocabulary

N_CTX_MIN = 32


@dataclass(frozen=True)
class AlongText:
    """What was found at each token of the answer, in order."""

    kl: Floats
    """KL(reference ‖ other) in nats, before the token came: [n] float64."""
    same_top: tuple[bool, ...]
    """Whether both found the same token likeliest."""
    reference_p: Floats
    """The reference's probability of the token that came: [n] float64."""
    other_p: Floats
    """The other's."""


def divergence_along(reference: Subject, other: Subject, tokens: Sequence[int], n_head: int) -> AlongText:
    """Compare two models on the tokens from `n_head` on.

    Args:
        reference: whose distributions are taken as true.
        other: which is compared with it; same vocabulary.
        tokens: a text, with what is before it.
        n_head: how many are context only, 1 at least.

    Raises:
        RequestError: the vocabularies differ, or nothing is left to compare.
        UnsupportedModel: a model makes no text.
        ModelLoadFailed: llama.cpp cannot make a context.
        DecodeFailed: llama.cpp failed to evaluate a batch.
    """
    if not 1 <= n_head < len(tokens):
        raise RequestError(f"{n_head} of {len(tokens)} tokens are context; that leaves nothing to compare.")
    if other.model is not reference.model:
        check_same_vocabulary(reference.model, other.model)
    n_rows = min(N_ROWS, n_block_rows(reference.model.vocab.n_tokens))
    n_ctx = max(len(tokens), N_CTX_MIN)
    found: list[tuple[Floats, list[bool], Floats, Floats]] = []
    with ExitStack() as stack:
        lanes = [stack.enter_context(closing(Lane(subject, n_ctx, n_rows))) for subject in (reference, other)]
        for lane in lanes:
            lane.read(tokens[: n_head - 1])
        for start in range(n_head - 1, len(tokens) - 1, n_rows):
            end = min(start + n_rows, len(tokens) - 1)
            targets = np.asarray(tokens[start + 1 : end + 1], dtype=np.int64)
            ours, theirs = (log_softmax(lane.logits(tokens[start:end], start)) for lane in lanes)
            scores = divergence(ours, theirs, targets)
            ps = [np.exp(target_log_probs(log_p, targets)) for log_p in (ours, theirs)]
            found.append((scores.kl, scores.same_top.tolist(), ps[0], ps[1]))
    kl, same_top, reference_p, other_p = zip(*found, strict=True)
    return AlongText(
        np.concatenate(kl), tuple(chain.from_iterable(same_top)), np.concatenate(reference_p), np.concatenate(other_p)
    )
