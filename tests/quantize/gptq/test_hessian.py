"""Second moments, how far they are trusted, and their factor, against elimination in float64."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.errors import RequestError
from localllm.quantize.gptq import Conditioning, SecondMoments, factorize, proxy_loss
from localllm.quantize.gptq.cholesky import NotPositiveDefinite, upper_factor
from localllm.quantize.gptq.order import column_order
from tests.quantize.gptq import oracle
from tests.quantize.gptq.samples import as_they_are, moments, weights


def mean_of(m: SecondMoments) -> np.ndarray:
    return m.total.astype(np.float64) / m.n_tokens


@pytest.mark.parametrize("n", [1, 7, 256, 257, 600])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_upper_factor_times_itself_is_the_matrix(n: int, dtype: type) -> None:
    x = np.random.default_rng(n).standard_normal((2 * n, n))
    matrix = (x.T @ x / n).astype(dtype)
    factor = upper_factor(matrix.copy())
    assert factor.dtype == dtype and not np.tril(factor, -1).any()
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-4 if dtype == np.float32 else 1e-12)


def test_upper_factor_reads_the_upper_triangle_only() -> None:
    matrix = mean_of(moments(300))
    spoiled = np.triu(matrix) + np.tril(np.full_like(matrix, 7.0), -1)
    np.testing.assert_allclose(upper_factor(spoiled), upper_factor(matrix.copy()), rtol=1e-9)


@pytest.mark.parametrize("place", [0, 299, 599])
def test_what_is_not_positive_definite_has_no_factor(place: int) -> None:
    matrix = np.eye(600)
    matrix[place, place] = -1
    with pytest.raises(NotPositiveDefinite):
        upper_factor(matrix)


@pytest.mark.parametrize(("shrinkage", "damping"), [(0.0, 0.01), (0.1, 0.01), (0.2, 0.0), (1.0, 0.0)])
def test_factor_is_that_of_the_conditioned_moments(shrinkage: float, damping: float) -> None:
    m = moments(300)
    factor = factorize(m, Conditioning(shrinkage, damping), arrange=as_they_are)
    expected = oracle.conditioned(mean_of(m), shrinkage, damping)
    upper, pivots = oracle.unit_upper(expected)
    np.testing.assert_allclose(factor.coupling, upper - np.eye(300), atol=2e-4 * np.abs(upper).max())
    np.testing.assert_allclose(factor.pivots, pivots, rtol=2e-4)
    np.testing.assert_allclose(factor.importance, np.diag(expected), rtol=1e-6)
    assert not np.tril(factor.coupling).any()


def test_part_of_a_factor_knows_what_later_columns_make_up_for() -> None:
    m = moments(96, rank=12)
    factor = factorize(m, Conditioning(0.05, 0.01), arrange=as_they_are)
    h = oracle.conditioned(mean_of(m), 0.05, 0.01)
    here, later = slice(32, 64), slice(64, 96)
    left = h[here, here] - h[here, later] @ np.linalg.inv(h[later, later]) @ h[later, here]
    np.testing.assert_allclose(factor.part(here).moments(), left, rtol=1e-3, atol=1e-4 * np.abs(left).max())


def test_full_shrinkage_ends_the_feedback() -> None:
    factor = factorize(moments(64), Conditioning(1.0, 0.0))
    assert not factor.coupling.any()
    np.testing.assert_allclose(factor.pivots, factor.importance, rtol=1e-6)


@pytest.mark.parametrize("damping", [0.0, 0.01])
def test_dead_column_is_coupled_to_none(damping: float) -> None:
    m = moments(64)
    total = m.total.copy()
    total[5], total[:, 5] = 0, 0
    factor = factorize(SecondMoments(total, m.n_tokens), Conditioning(0.1, damping), arrange=as_they_are)
    assert not factor.coupling[5].any() and not factor.coupling[:, 5].any()
    assert factor.pivots[5] > 0 and factor.importance[5] > 0


def test_inputs_that_never_came_weigh_all_columns_the_same() -> None:
    factor = factorize(SecondMoments(np.zeros((32, 32), dtype=np.float32), 100))
    assert not factor.coupling.any() and set(factor.pivots) == set(factor.importance) == {1.0}


def test_sizes_of_columns_do_not_spoil_the_precision() -> None:
    m = moments(256)
    size = np.random.default_rng(1).permutation(np.logspace(-4, 4, 256))
    scaled = SecondMoments(m.total.astype(np.float64) * size[:, None] * size, m.n_tokens)
    plain, other = (factorize(x, Conditioning(0.1, 0.0), arrange=as_they_are) for x in (m, scaled))
    np.testing.assert_allclose(other.coupling, plain.coupling * size[:, None] / size, rtol=2e-3, atol=1e-5)


def test_singular_moments_are_refused_by_name_unless_conditioned() -> None:
    m = SecondMoments(np.ones((64, 64), dtype=np.float32) * 50, 50)
    with pytest.raises(RequestError, match="64 columns from 50 tokens are not positive definite") as caught:
        factorize(m, Conditioning(0.0, 0.0))
    assert caught.value.hint is not None and "shrinkage" in caught.value.hint
    assert np.isfinite(factorize(m, Conditioning(0.0, 0.01)).coupling).all()
    assert np.isfinite(factorize(m, Conditioning(0.1, 0.0)).coupling).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_moments_that_are_not_finite_are_refused(bad: float) -> None:
    total = moments(32).total.copy()
    total[3, 9] = bad
    with pytest.raises(RequestError, match="not finite"):
        SecondMoments(total, 10)


def test_what_is_no_second_moment_is_refused() -> None:
    with pytest.raises(RequestError, match=r"square matrix, not \(3, 4\)"):
        SecondMoments(np.zeros((3, 4)), 10)
    with pytest.raises(RequestError, match="negative"):
        SecondMoments(-np.eye(4), 10)
    with pytest.raises(RequestError, match="No calibration token"):
        SecondMoments(np.eye(4), 0)


@pytest.mark.parametrize(("shrinkage", "damping"), [(-0.1, 0.0), (1.1, 0.0), (0.1, -1.0), (0.1, np.nan), (np.nan, 0.1)])
def test_conditioning_out_of_range_is_refused(shrinkage: float, damping: float) -> None:
    with pytest.raises(RequestError):
        Conditioning(shrinkage, damping)


def test_starved_moments_lean_on_the_layers() -> None:
    few, all_of_them = moments(16, n_tokens=8, seed=1), moments(16, n_tokens=800, seed=2)
    leaning = few.leaning_on(all_of_them, 24)
    assert leaning.n_tokens == 32
    np.testing.assert_allclose(mean_of(leaning), 0.25 * mean_of(few) + 0.75 * mean_of(all_of_them), rtol=1e-5)
    with pytest.raises(RequestError, match="16 and 32 columns"):
        few.leaning_on(moments(32), 1)


@pytest.mark.parametrize("n_cols", [7, 32, 96, 512, 1024])
def test_order_keeps_blocks_and_groups_together(n_cols: int) -> None:
    importance = np.random.default_rng(0).lognormal(0, 1, n_cols)
    order = column_order(importance)
    assert sorted(order) == list(range(n_cols))
    for size in (256, 32, 16):
        if n_cols % size == 0:
            assert (np.ptp(order.reshape(-1, size) // size, axis=1) == 0).all()
    groups = importance[order].reshape(-1, 16 if n_cols % 16 == 0 else n_cols)
    assert (np.diff(groups, axis=1) <= 0).all()
    if n_cols % 256 == 0:
        assert (np.diff(importance[order].reshape(-1, 256).sum(axis=1)) <= 0).all()


def test_importance_is_the_mean_square() -> None:
    m = moments(16)
    np.testing.assert_allclose(m.importance, np.diag(mean_of(m)), rtol=1e-6)


def test_proxy_loss_is_the_mean_square_of_the_outputs_error() -> None:
    rng = np.random.default_rng(0)
    x, error = rng.standard_normal((50, 32)).astype(np.float32), weights(4, 32)
    expected = ((x @ error.T) ** 2).sum() / 50
    assert proxy_loss(error, SecondMoments(x.T @ x, 50)) == pytest.approx(expected, rel=1e-5)
