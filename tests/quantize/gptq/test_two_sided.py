"""Feedback between rows, against the recursion written out in float64, and against feedback between columns alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.errors import RequestError
from localllm.llama.encoding import decode
from localllm.quantize.gptq import Conditioning, Factor, SecondMoments, encode_with_feedback, factorize
from localllm.quantize.gptq.order import row_order
from localllm.quantize.gptq.two_sided import encode_with_both_feedbacks
from localllm.quantize.workers import Workers
from tests.quantize.gptq import oracle
from tests.quantize.gptq.samples import KINDS, moments, weights


def output_factor(m: SecondMoments) -> list[Factor]:
    return [factorize(m, Conditioning(0.1, 0.01), arrange=row_order)]


def loss(rows: np.ndarray, stored: np.ndarray, inputs: SecondMoments, outputs: SecondMoments) -> float:
    """tr(G E H Eᵀ) in float64."""
    error = (rows - stored).astype(np.float64)
    return float(np.vdot(outputs.total @ error, error @ inputs.total))


def each_row_after_those_before(
    kind: str, rows: np.ndarray, stored: np.ndarray, inputs: Factor, outputs: SecondMoments
) -> np.ndarray:
    """Return what is stored of each row if it is moved by what `stored` got wrong in the rows before it; in float64.

    The rows before are those given, so that a near tie in one (BLAS adds up in another order) does not reach the next.
    """
    g = oracle.conditioned(outputs.total.astype(np.float64) / outputs.n_tokens, 0.1, 0.01)
    order = np.argsort(-np.diag(g), kind="stable")
    upper, _ = oracle.unit_upper(g[np.ix_(order, order)])
    errors = (rows.astype(np.float64) - stored)[order]
    theirs = np.empty_like(rows)
    for i, row in enumerate(order):
        target = rows[row] + upper[:i, i] @ errors[:i]
        theirs[row] = decode(kind, encode_with_feedback(kind, target[None].astype(np.float32), inputs))[0]
    return theirs


@pytest.mark.parametrize("kind", ["q4_0", "q4_K", "iq4_nl"])
def test_one_row_a_block_is_the_papers_recursion(kind: str) -> None:
    n_cols = 256
    inputs, outputs, rows = moments(n_cols, seed=1), moments(24, rank=6, seed=2), weights(24, n_cols, seed=3)
    factor = factorize(inputs)
    ours = decode(kind, encode_with_both_feedbacks(kind, rows, factor, output_factor(outputs), n_rows=1))
    theirs = each_row_after_those_before(kind, rows, ours, factor, outputs)
    same = np.isclose(ours, theirs, rtol=1e-4, atol=1e-7).all(axis=1)
    assert same.mean() >= 0.75, f"a near tie may turn a code and what follows in its row, not so in rows {~same}"
    assert loss(rows, ours, inputs, outputs) == pytest.approx(loss(rows, theirs, inputs, outputs), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_rows=st.sampled_from([1, 7, 16]))
def test_predictions_change_less_than_with_feedback_between_columns(kind: str, seed: int, n_rows: int) -> None:
    inputs, outputs = moments(256, seed=seed), moments(48, rank=8, seed=seed + 1)
    rows, factor = weights(48, 256, seed=seed), factorize(inputs)
    one = decode(kind, encode_with_feedback(kind, rows, factor))
    both = decode(kind, encode_with_both_feedbacks(kind, rows, factor, output_factor(outputs), n_rows=n_rows))
    assert loss(rows, both, inputs, outputs) < loss(rows, one, inputs, outputs)


def test_outputs_that_are_not_correlated_leave_every_row_as_it_was() -> None:
    rows, factor = weights(40, 512), factorize(moments(512))
    gradients = SecondMoments(np.diag(np.random.default_rng(0).lognormal(0, 1, 40)).astype(np.float32), 1)
    both = encode_with_both_feedbacks("q4_K", rows, factor, output_factor(gradients), n_rows=16)
    same = (both == encode_with_feedback("q4_K", rows, factor)).all(axis=1)
    assert same.mean() > 0.9, "a near tie may turn a code where BLAS adds up in another order"


def test_gradients_of_another_matrix_are_refused() -> None:
    with pytest.raises(RequestError, match="24 outputs; these weights have 8 rows"):
        encode_with_both_feedbacks("q4_0", weights(8, 64), factorize(moments(64)), output_factor(moments(24)))


def test_blocks_of_outputs_on_several_threads_are_the_bytes_of_one_after_the_other() -> None:
    rows, inputs = weights(150, 256), factorize(moments(256))
    gradients = [moments(n, rank=8, seed=n) for n in (70, 70, 10)]
    outputs = [output_factor(m)[0] for m in gradients]
    alone = [
        encode_with_both_feedbacks("q4_K", some, inputs, [factor])
        for some, factor in zip(np.split(rows, [70, 140]), outputs, strict=True)
    ]
    with Workers(3) as workers:
        together = encode_with_both_feedbacks("q4_K", rows, inputs, outputs, run=workers.map)
    np.testing.assert_array_equal(together, np.concatenate(alone))
