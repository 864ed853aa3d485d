"""Causal attention of one chunk's tokens, with its derivative.

Query heads of a group share their key head by reshaping, [n_head_kv, n_group * n_tokens, head_dim], so that nothing is
repeated in memory. Scores take n_head * n_tokens² values.

Source: Vaswani et al. 2017, section 3.2; Ainslie et al. 2023 (groups); Gemma 2's report, section 2 (capped scores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localllm.gradients.pieces import Linear, Piece, Projections
from localllm.gradients.tensors import Array


@dataclass(frozen=True)
class AttentionShape:
    """The numbers of a layer's attention."""

    n_head: int
    n_head_kv: int
    head_dim: int
    scale: float
    """That scores are multiplied by."""
    cap: float = 0.0
    """Scores s become cap · tanh(s / cap); 0: they stay."""
    n_window: int = 0
    """Tokens that each one sees, itself included; 0: all before it."""


class CausalAttention:
    """softmax(q kᵀ · scale) v, where no token sees a later one."""

    def __init__(self, shape: AttentionShape) -> None:
        self._shape = shape

    def forward(self, q: Array, k: Array, v: Array) -> Array:
        """Return what the heads read.

        Args:
            q: [n_tokens, n_head, head_dim].
            k, v: [n_tokens, n_head_kv, head_dim].

        Returns:
            [n_tokens, n_head * head_dim].
        """
        self._q = self._grouped(q)
        self._q *= self._shape.scale
        self._k, self._v = (np.ascontiguousarray(part.transpose(1, 0, 2)) for part in (k, v))
        scores = self._q @ self._k.transpose(0, 2, 1)
        self._slope = self._capped(scores)
        self._share = _softmax(self._masked(scores))
        self._read = self._share @ self._v
        return self._ungrouped(self._read).reshape(len(q), -1)

    def backward(self, g: Array) -> tuple[Array, Array, Array]:
        """Return the gradients by q, k and v, of the shapes that `forward` took."""
        shape = self._shape
        dread = self._grouped(g.reshape(len(g), shape.n_head, shape.head_dim))
        dscores = dread @ self._v.transpose(0, 2, 1)
        dscores -= np.einsum("hid,hid->hi", dread, self._read)[..., None]
        dscores *= self._share
        if self._slope is not None:
            dscores *= self._slope
        dq = dscores @ self._k
        dq *= shape.scale
        dk = dscores.transpose(0, 2, 1) @ self._q
        dv = self._share.transpose(0, 2, 1) @ dread
        return self._ungrouped(dq), dk.transpose(1, 0, 2), dv.transpose(1, 0, 2)

    def _grouped(self, x: Array) -> Array:
        """Turn [n_tokens, n_head, head_dim] into [n_head_kv, n_group * n_tokens, head_dim], copied."""
        by_head = np.array(x.transpose(1, 0, 2), order="C")
        return by_head.reshape(self._shape.n_head_kv, -1, self._shape.head_dim)

    def _ungrouped(self, x: Array) -> Array:
        return x.reshape(self._shape.n_head, -1, self._shape.head_dim).transpose(1, 0, 2)

    def _capped(self, scores: Array) -> Array | None:
        """Cap scores in place; return the derivative, or None where nothing is capped."""
        cap = self._shape.cap
        if not cap:
            return None
        scores /= cap
        np.tanh(scores, out=scores)
        slope: Array = 1 - scores * scores
        scores *= cap
        return slope

    def _masked(self, scores: Array) -> Array:
        """Take away, in place, what a token does not see."""
        n = scores.shape[-1]
        distance = np.arange(n)[:, None] - np.arange(n)
        hidden = distance < 0
        if self._shape.n_window:
            hidden |= distance >= self._shape.n_window
        by_head = scores.reshape(-1, n, n)
        by_head += np.where(hidden, -np.inf, 0).astype(scores.dtype)
        return scores


class SelfAttention:
    """Queries, keys and values of the tokens, attention, and the output projection.

    Args:
        shape: of the attention.
        projections: makes q, k and v side by side.
        on_q, on_k: what is done to [n_tokens, heads, head_dim] before: norms and RoPE.
        output: reads what the heads read.
    """

    def __init__(
        self, shape: AttentionShape, projections: Projections, on_q: Piece, on_k: Piece, output: Linear
    ) -> None:
        self._shape = shape
        self._projections, self._on_q, self._on_k, self._output = projections, on_q, on_k, output
        self._attention = CausalAttention(shape)

    def forward(self, x: Array) -> Array:
        q, k, v = (part.reshape(len(x), -1, self._shape.head_dim) for part in self._projections.forward(x))
        return self._output.forward(self._attention.forward(self._on_q.forward(q), self._on_k.forward(k), v))

    def backward(self, g: Array) -> Array:
        dq, dk, dv = self._attention.backward(self._output.backward(g))
        parts = (self._on_q.backward(dq), self._on_k.backward(dk), dv)
        return self._projections.backward([np.ascontiguousarray(part).reshape(len(g), -1) for part in parts])


def _softmax(scores: Array) -> Array:
    """Softmax over the last axis, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
