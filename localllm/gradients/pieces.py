"""The pieces of a decoder layer, each with its derivative: what `forward` kept, the next `backward` uses.

A gradient is that of one number, the loss, by an array of the same shape. Arrays are float32 or float64 as they come
in; the last axis is a token's vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from localllm.gradients.tensors import Array

Observe = Callable[[str, Array, Array], None]
"""Hears, of each linear layer, its weight's name, its inputs x [n_tokens, n_in] and the gradient by its outputs
[n_tokens, n_out]."""


class Piece(Protocol):
    """A function of one array, and its derivative."""

    def forward(self, x: Array) -> Array: ...

    def backward(self, g: Array) -> Array: ...


class Chain:
    """Pieces, one after another."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = tuple(pieces)

    def forward(self, x: Array) -> Array:
        for piece in self._pieces:
            x = piece.forward(x)
        return x

    def backward(self, g: Array) -> Array:
        for piece in reversed(self._pieces):
            g = piece.backward(g)
        return g


class Residual:
    """x + f(x)."""

    def __init__(self, inner: Piece) -> None:
        self._inner = inner

    def forward(self, x: Array) -> Array:
        return x + self._inner.forward(x)

    def backward(self, g: Array) -> Array:
        return g + self._inner.backward(g)


class RmsNorm:
    """x / √(mean x² + ε) · w, over the last axis.

    Args:
        weight: [n] w.
        eps: ε.

    Source: Zhang and Sennrich 2019.
    """

    def __init__(self, weight: Array, eps: float) -> None:
        self._weight, self._eps = weight, eps

    def forward(self, x: Array) -> Array:
        mean = np.einsum("...i,...i->...", x, x)[..., None] / x.shape[-1]
        self._inverse = 1 / np.sqrt(mean + self._eps)
        self._normed = x * self._inverse
        scaled: Array = self._normed * self._weight
        return scaled

    def backward(self, g: Array) -> Array:
        dx: Array = g * self._weight
        along = np.einsum("...i,...i->...", dx, self._normed)[..., None] / g.shape[-1]
        dx -= self._normed * along
        dx *= self._inverse
        return dx


class Linear:
    """x Wᵀ + b; `backward` shows the observer what the weight saw.

    Args:
        name: of the weight.
        weight: [n_out, n_in].
        bias: [n_out], or None.
        observe: who hears of it.
    """

    def __init__(self, name: str, weight: Array, bias: Array | None, observe: Observe) -> None:
        self.n_out = len(weight)
        self._name, self._weight, self._bias, self._observe = name, weight, bias, observe

    def forward(self, x: Array) -> Array:
        self._x = x
        y: Array = x @ self._weight.T
        if self._bias is not None:
            y += self._bias
        return y

    def backward(self, g: Array) -> Array:
        self._observe(self._name, self._x, g)
        dx: Array = g @ self._weight
        return dx


class Projections:
    """Linear layers that read the same, whose outputs are parts; a fused one makes several.

    Args:
        linears: each with the widths of its parts, in order.
    """

    def __init__(self, linears: Sequence[tuple[Linear, tuple[int, ...]]]) -> None:
        self._linears = tuple(linears)

    def forward(self, x: Array) -> list[Array]:
        parts: list[Array] = []
        for linear, widths in self._linears:
            parts += np.split(linear.forward(x), np.cumsum(widths[:-1]), axis=-1)
        return parts

    def backward(self, parts: Sequence[Array]) -> Array:
        left = list(parts)
        dx: list[Array] = []
        for linear, widths in self._linears:
            own = [left.pop(0) for _ in widths]
            dx.append(linear.backward(own[0] if len(own) == 1 else np.concatenate(own, axis=-1)))
        total = dx[0]
        for more in dx[1:]:
            total += more
        return total
