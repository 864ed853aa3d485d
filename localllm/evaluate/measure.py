"""Perplexity, and KL divergence from a reference, over the chunks of a text.

    with Model(path) as model:
        chunks = Chunks.of_text(text, model.vocab, n_ctx=512)
        found = compare(Subject(model), [Subject(model, kv_type_k="q8_0", kv_type_v="q8_0")], chunks)
        found.others[0].divergence.kl         # nats: Estimate(value, standard_error)

All contexts are open at once and go through a chunk together, so that logits are compared where llama.cpp left them:
there is no file of logits, and memory does not grow with the text but for a few numbers per token. Every context
computes the same batches, since the width of a batch changes how llama.cpp rounds.

Perplexities are comparable with those of llama-perplexity at the same n_ctx: the same chunks, BOS, scored tokens and
standard error (its f16 and CPU rounding depend on the batch width, so digits may differ beyond the third).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import numpy as np
from numpy.typing import NDArray

from localllm.evaluate.chunks import Chunks
from localllm.evaluate.lane import Lane, Subject, n_block_rows
from localllm.evaluate.results import Comparison, Divergence, Evaluation, perplexity_of
from localllm.evaluate.scores import N_ROWS, DivergenceScores, Floats, divergence, log_softmax, target_log_probs
from localllm.evaluate.vocabulary import check_same_vocabulary

OnChunk = Callable[[int, int], None]
"""Called after each chunk with how many are done, and how many there are; an exception ends the evaluation."""


def perplexity(subject: Subject, chunks: Chunks, on_chunk: OnChunk | None = None) -> Evaluation:
    """Measure how well a model predicts a text.

    Raises:
        As `compare`.
    """
    return compare(subject, (), chunks, on_chunk).reference


def compare(
    reference: Subject, others: Sequence[Subject], chunks: Chunks, on_chunk: OnChunk | None = None
) -> Comparison:
    """Measure how far others are from a reference, side by side.

    Args:
        reference: whose distributions are taken as true.
        others: models or settings to compare with it; those of one file can share its `Model`.
        chunks: of a text, cut with the reference's vocabulary.
        on_chunk: hears of the progress.

    Raises:
        RequestError: the vocabularies differ.
        UnsupportedModel: a model makes no text.
        ModelLoadFailed: llama.cpp cannot make a context.
        DecodeFailed: llama.cpp failed to evaluate a batch.
    """
    subjects = [reference, *others]
    _check_vocabularies(subjects)
    n_rows = n_block_rows(reference.model.vocab.n_tokens)
    with ExitStack() as stack:
        lanes = [stack.enter_context(closing(Lane(subject, chunks.n_ctx, n_rows))) for subject in subjects]
        tallies = [_Tally() for _ in subjects]
        for n_done, tokens in enumerate(chunks.tokens, 1):
            _score_chunk(lanes, tallies, tokens, chunks.first, n_rows)
            if on_chunk is not None:
                on_chunk(n_done, chunks.n_chunks)
        first, *rest = (tally.evaluation(lane, tallies[0]) for lane, tally in zip(lanes, tallies, strict=True))
    return Comparison(first, tuple(rest))


def _check_vocabularies(subjects: Sequence[Subject]) -> None:
    reference, *others = dict.fromkeys(subject.model for subject in subjects)
    for other in others:
        check_same_vocabulary(reference, other)


class _Tally:
    """The scores of one lane, chunk by chunk."""

    def __init__(self) -> None:
        self._nll: list[Floats] = []
        self._divergences: list[DivergenceScores] = []

    def add(self, nll: Floats, scores: DivergenceScores | None) -> None:
        self._nll.append(nll)
        if scores is not None:
            self._divergences.append(scores)

    @property
    def nll(self) -> Floats:
        return np.concatenate(self._nll)

    def evaluation(self, lane: Lane, reference: _Tally) -> Evaluation:
        nll = self.nll
        found = self._divergences
        scores = DivergenceScores.concatenate(found) if found else None
        return Evaluation(
            perplexity=perplexity_of(nll),
            n_scored=len(nll),
            n_evaluated=lane.n_evaluated,
            decode_s=lane.decode_s,
            kv_allocated_bytes=lane.kv_allocated_bytes,
            divergence=Divergence.of(scores, nll - reference.nll) if scores else None,
        )


def _score_chunk(
    lanes: Sequence[Lane], tallies: Sequence[_Tally], tokens: Sequence[int], first: int, n_rows: int
) -> None:
    """Evaluate a chunk on every lane, and score its second half block by block."""
    for lane in lanes:
        lane.read(tokens[:first])
    last = len(tokens) - 1
    for start in range(first, last, n_rows):
        end = min(start + n_rows, last)
        logits = [lane.logits(tokens[start:end], start) for lane in lanes]
        _score_block(logits, np.asarray(tokens[start + 1 : end + 1], dtype=np.int64), tallies)


def _score_block(logits: Sequence[NDArray[np.float32]], targets: NDArray[np.int64], tallies: Sequence[_Tally]) -> None:
    """Score the rows that every lane computed for the same tokens: [n, n_vocab] each."""
    for rows in _slices(len(targets), N_ROWS):
        reference = log_softmax(logits[0][rows])
        tallies[0].add(-target_log_probs(reference, targets[rows]), None)
        for own_logits, tally in zip(logits[1:], tallies[1:], strict=True):
            other = log_softmax(own_logits[rows])
            tally.add(-target_log_probs(other, targets[rows]), divergence(reference, other, targets[rows]))


def _slices(n: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, n, step))
