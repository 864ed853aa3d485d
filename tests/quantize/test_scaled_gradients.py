"""Gradients of weights that were scaled: what an error costs stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

from localllm.errors import RequestError
from localllm.quantize.moments import Gradients
from localllm.quantize.scaling import ScaledGradients, TensorScale
from tests.quantize.gptq.samples import moments, weights

KNOWN = Gradients(moments(64, seed=1), (moments(16, rank=4, seed=2), moments(8, rank=2, seed=3)))


class OfOneWeight:
    def covers(self, weight: str) -> bool:
        return weight == "w"

    def gradients(self, weight: str) -> Gradients:
        return KNOWN


def cost(error: np.ndarray, gradients: Gradients) -> float:
    parts = zip(gradients.outputs, np.split(error, [16]), strict=True)
    return float(sum(np.vdot(block.total @ rows, rows @ gradients.inputs.total) for block, rows in parts))


@pytest.mark.parametrize("with_cols", [False, True])
@pytest.mark.parametrize("with_rows", [False, True])
def test_an_error_costs_what_it_cost_before_scaling(with_cols: bool, with_rows: bool) -> None:
    rng = np.random.default_rng(0)
    cols = rng.lognormal(0, 1, (1, 64)).astype(np.float32) if with_cols else None
    rows = rng.lognormal(0, 1, (1, 24)).astype(np.float32) if with_rows else None
    scale = TensorScale(cols, rows)
    source = ScaledGradients(OfOneWeight(), {"w": scale})
    error = weights(24, 64)
    assert source.covers("w")
    assert not source.covers("v")
    assert cost(scale(error, 0, 0), source.gradients("w")) == pytest.approx(cost(error, KNOWN), rel=1e-3)


def test_gradients_of_another_shape_are_refused() -> None:
    scales = {"w": TensorScale(np.ones((1, 32), dtype=np.float32))}
    with pytest.raises(RequestError, match="64 columns; 32 are scaled"):
        ScaledGradients(OfOneWeight(), scales).gradients("w")
