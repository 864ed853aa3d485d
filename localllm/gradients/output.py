"""The output layer, and the gradients that begin there: draws whose second moment is the Fisher information.

For a token's next-token distribution p, the KL divergence of p to a softmax of logits that err by δ is δᵀ (diag(p) - p
pᵀ) δ / 2 to second order. A vector u with that second moment, propagated back, gives every weight gradients whose
second moment is the Fisher information of KL(p ‖ ·) at it. With signs e drawn evenly,

    u = √p ∘ e - p (√p · e)        E[u uᵀ] = diag(p) - p pᵀ

which is what gradients of a label drawn from p have, with less variance.

Source: Tseng, Sun, De Sa 2025 (YAQA), section 3, for the Fisher; signs instead of labels: Hutchinson 1990.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from localllm.gradients.pieces import RmsNorm
from localllm.gradients.tensors import Array

SLICE_BYTES = 64 << 20
"""Of the logits that are in memory at once; the signs and u take as much again."""


class OutputLayer:
    """From the last layer's outputs to logits, and back.

    Args:
        norm: before the output matrix.
        weight: [n_vocab, n_embd].
        cap: logits z become cap · tanh(z / cap); 0: they stay.
    """

    def __init__(self, norm: RmsNorm, weight: Array, cap: float) -> None:
        self._norm, self._weight, self._cap = norm, weight, cap

    def logits(self, x: Array) -> Array:
        """Return the logits of some tokens: [n_tokens, n_vocab].

        Args:
            x: [n_tokens, n_embd], the last layer's outputs.
        """
        z: Array = self._norm.forward(x) @ self._weight.T
        if self._cap:
            z /= self._cap
            np.tanh(z, out=z)
            z *= self._cap
        return z

    def backward(self, u: Array, logits: Array) -> Array:
        """Return the gradient by x of the last `logits`, [n_tokens, n_embd].

        Args:
            u: the gradient by the logits, [n_tokens, n_vocab]; changed in place.
            logits: what `logits` returned, or 0 where they are not capped.
        """
        if self._cap:
            u *= 1 - (logits / self._cap) ** 2
        return self._norm.backward(u @ self._weight)

    def fisher_gradient(self, x: Array, rng: np.random.Generator) -> Array:
        """Return a draw of the gradient by x, [n_tokens, n_embd], some tokens at a time.

        The draw depends on the generator's seed alone, not on how the tokens are sliced.

        Args:
            x: [n_tokens, n_embd], the last layer's outputs.
            rng: of this chunk.
        """
        step = max(1, SLICE_BYTES // (x.itemsize * len(self._weight)))
        gradient = np.empty_like(x)
        for start in range(0, len(x), step):
            here = slice(start, start + step)
            logits = self.logits(x[here])
            u = fisher_draws(logits, rng)
            gradient[here] = self.backward(u, logits)
        return gradient


def fisher_draws(logits: Array, rng: np.random.Generator) -> Array:
    """Draw u with E[u uᵀ] = diag(p) - p pᵀ for each row of logits [n_tokens, n_vocab]."""
    p = logits - logits.max(axis=-1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(axis=-1, keepdims=True)
    u: Array = np.sqrt(p)
    u *= _signs(len(u), u.shape[1], rng)
    p *= u.sum(axis=-1, keepdims=True)
    u -= p
    return u


def _signs(n_rows: int, n_cols: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draw -1 and 1, [n_rows, n_cols] int8; a row takes whole 32-bit words of the generator."""
    words = -(-n_cols // 32)
    drawn = np.frombuffer(rng.bytes(4 * words * n_rows), dtype=np.uint8).reshape(n_rows, 4 * words)
    bits = np.unpackbits(drawn, axis=1, count=n_cols).view(np.int8)
    signs: NDArray[np.int8] = 2 * bits - 1
    return signs
