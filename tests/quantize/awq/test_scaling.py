"""What scales do to weights, importance and moments."""

from __future__ import annotations

import numpy as np

from localllm.quantize import Imatrix, ImatrixEntry, TensorScale, scaled_imatrix
from localllm.quantize.gptq import SecondMoments, proxy_loss
from localllm.quantize.scaling import ScaledMoments

RNG = np.random.default_rng(3)
COLS = np.exp(RNG.normal(0, 1, (1, 6))).astype(np.float32)
BY_EXPERT = np.exp(RNG.normal(0, 1, (2, 6))).astype(np.float32)


class Source:
    """Moments of one matrix."""

    def __init__(self, moments: SecondMoments) -> None:
        self._moments = moments

    def covers(self, weight: str) -> bool:
        return True

    def input_of(self, weight: str) -> str:
        return weight

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        return self._moments if matrix == 0 else None


def inputs() -> np.ndarray:
    return RNG.standard_normal((40, 6)).astype(np.float32)


def test_rows_and_columns() -> None:
    weights = RNG.standard_normal((3, 6)).astype(np.float32)
    rows = np.arange(1, 6, dtype=np.float32)[None]
    scaled = TensorScale(BY_EXPERT, rows)(weights, 1, 2)
    np.testing.assert_allclose(scaled, weights * BY_EXPERT[1] * np.array([[3], [4], [5]]), rtol=1e-6)


def test_the_outputs_errors_are_the_same_after_scaling() -> None:
    x = inputs()
    before = SecondMoments(x.T @ x, len(x))
    after = ScaledMoments(Source(before), {"w": TensorScale(COLS)}).second_moments("w", 0)
    assert after is not None
    error = RNG.standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_allclose(proxy_loss(error * COLS, after), proxy_loss(error, before), rtol=1e-5)
    np.testing.assert_allclose(after.total, (x / COLS).T @ (x / COLS), rtol=1e-4)


def test_moments_of_what_is_not_scaled_stay() -> None:
    x = inputs()
    before = SecondMoments(x.T @ x, len(x))
    source = ScaledMoments(Source(before), {"w": TensorScale(rows=COLS)})
    assert source.second_moments("w", 0) is before and source.second_moments("other", 0) is before
    assert source.second_moments("w", 1) is None


def test_importance_is_that_of_the_scaled_inputs() -> None:
    x = inputs()
    squares = np.stack([(x**2).sum(axis=0), np.zeros(6, dtype=np.float32)])
    counts = np.array([len(x), 0])
    found = scaled_imatrix(Imatrix({"w": ImatrixEntry(squares, counts)}), {"w": TensorScale(BY_EXPERT)})
    np.testing.assert_allclose(found.entries["w"].importance[0], ((x / BY_EXPERT[0]) ** 2).mean(axis=0), rtol=1e-5)
    assert (found.entries["w"].importance[1] == 1).all()


def test_importance_of_an_older_file_has_its_experts_in_one_row() -> None:
    x = inputs()
    sums = np.tile((x**2).sum(axis=0), 2)[None]
    found = scaled_imatrix(Imatrix({"w": ImatrixEntry(sums, np.array([len(x)]))}), {"w": TensorScale(BY_EXPERT)})
    assert found.entries["w"].sums.shape == (1, 12)
    np.testing.assert_allclose(found.entries["w"].sums[0, 6:], sums[0, 6:] / BY_EXPERT[1] ** 2, rtol=1e-6)
