"""The feed-forward half of a layer: act(gate) · up, with its derivative.

Source: Shazeer 2020 (SwiGLU, GeGLU); Hendrycks and Gimpel 2016 (GELU, by tanh, as ggml has it).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from localllm.gradients.pieces import Linear, Projections
from localllm.gradients.tensors import Array

Activation = Callable[[Array], tuple[Array, Array]]
"""Of x: the values, and their derivatives."""

_GELU_SLOPE = math.sqrt(2 / math.pi)
_GELU_CUBE = 0.044715


def silu(x: Array) -> tuple[Array, Array]:
    """Return x σ(x) and its derivative; σ by tanh, which does not overflow."""
    sigmoid: Array = np.tanh(0.5 * x)
    sigmoid += 1
    sigmoid *= 0.5
    value: Array = x * sigmoid
    slope: Array = 1 - sigmoid
    slope *= value
    slope += sigmoid
    return value, slope


def gelu(x: Array) -> tuple[Array, Array]:
    """Return x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 and its derivative."""
    square = x * x
    tanh: Array = np.tanh(_GELU_SLOPE * x * (1 + _GELU_CUBE * square))
    half: Array = 0.5 * (1 + tanh)
    inner = _GELU_SLOPE * (1 + 3 * _GELU_CUBE * square)
    slope: Array = half + 0.5 * x * (1 - tanh * tanh) * inner
    return x * half, slope


class FeedForward:
    """down(act(gate(x)) · up(x)).

    Args:
        projections: makes gate and up side by side.
        activation: of the gate.
        down: reads the product.
    """

    def __init__(self, projections: Projections, activation: Activation, down: Linear) -> None:
        self._projections, self._activation, self._down = projections, activation, down

    def forward(self, x: Array) -> Array:
        gate, self._up = self._projections.forward(x)
        self._value, self._slope = self._activation(gate)
        return self._down.forward(self._value * self._up)

    def backward(self, g: Array) -> Array:
        product = self._down.backward(g)
        dgate = product * self._up
        dgate *= self._slope
        product *= self._value
        return self._projections.backward([dgate, product])
