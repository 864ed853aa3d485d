"""RoPE: pairs of a head's values, turned by angles that grow with the token's position.

Source: Su et al. 2021 (RoFormer); Chen et al. 2023 (linear scaling); ggml's `rope`, for the two ways to pair values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from localllm.gradients.tensors import Array


@dataclass(frozen=True)
class Rotation:
    """How a layer turns its queries and keys."""

    n_rot: int
    """Values of a head that are turned, the first ones; even."""
    base: float
    turns_neighbours: bool
    """Values 2i and 2i + 1 are a pair (NORM in ggml); else i and i + n_rot / 2 are (NEOX)."""
    speed: float = 1.0
    """Of all angles: 1 / the factor of linear scaling."""
    factors: tuple[float, ...] = ()
    """[n_rot / 2] that angles are divided by, as Llama 3 has it; none: 1."""
    magnitude: float = 1.0
    """That turned values are multiplied by."""

    def tables(self, n_ctx: int, dtype: DTypeLike) -> tuple[Array, Array]:
        """Return cosines and sines [n_ctx, 1, n_rot / 2] of the angles, times the magnitude."""
        inverse = self.base ** (-np.arange(0, self.n_rot, 2) / self.n_rot) * self.speed
        if self.factors:
            inverse /= np.asarray(self.factors)
        angles = np.arange(n_ctx)[:, None, None] * inverse
        cos, sin = self.magnitude * np.cos(angles), self.magnitude * np.sin(angles)
        return cos.astype(dtype), sin.astype(dtype)


class Rope:
    """Turns [n_tokens, n_head, head_dim]; the tokens' positions begin at 0.

    Args:
        rotation: how.
        n_ctx: tokens at most.
        dtype: of the arrays.
    """

    def __init__(self, rotation: Rotation, n_ctx: int, dtype: DTypeLike) -> None:
        self._rotation = rotation
        self._cos, self._sin = rotation.tables(n_ctx, dtype)

    def forward(self, x: Array) -> Array:
        return self._turn(x, self._sin)

    def backward(self, g: Array) -> Array:
        return self._turn(g, -self._sin)

    def _turn(self, x: Array, sin: Array) -> Array:
        cos, sin = self._cos[: len(x)], sin[: len(x)]
        turned = x.copy()
        (a, b), (to_a, to_b) = self._pairs(x), self._pairs(turned)
        to_a[...] = a * cos - b * sin
        to_b[...] = a * sin + b * cos
        return turned

    def _pairs(self, x: Array) -> tuple[Array, Array]:
        n_rot = self._rotation.n_rot
        if self._rotation.turns_neighbours:
            return x[..., 0:n_rot:2], x[..., 1:n_rot:2]
        return x[..., : n_rot // 2], x[..., n_rot // 2 : n_rot]
