"""What the inputs of a weight matrix say about which errors cost: second moments, and their factor.

An error E = W - Q in the weights [n_rows, n_cols] changes the outputs by E x, so its mean square over the inputs is

    tr(E H Eᵀ)        H = mean of x xᵀ, [n_cols, n_cols]

the *proxy loss* (Frantar et al. 2023; Chee et al. 2023). Matrices that read the same inputs (q, k and v; gate and up)
share one H and one factor.

This module knows nothing of types and codes: H in, the numbers that `feedback` needs out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.quantize.gptq.cholesky import NotPositiveDefinite, upper_factor
from localllm.quantize.gptq.order import Arrange, Order, column_order

Floats = NDArray[np.float32]

_COLLECT_AGAIN = "Collect the moments again, with more calibration text."


@dataclass(frozen=True)
class SecondMoments:
    """Sums over the inputs of one or several weight matrices.

    Args:
        total: [n_cols, n_cols] float32 or float64: the sum of x xᵀ over `n_tokens` inputs, symmetric.
        n_tokens: how many inputs were summed up.

    Raises:
        RequestError: the sum is no second moment: not square, not finite, negative on the diagonal, or of no inputs.
    """

    total: NDArray[np.floating[Any]]
    n_tokens: float

    def __post_init__(self) -> None:
        total = self.total
        if total.ndim != 2 or total.shape[0] != total.shape[1] or not total.size:
            raise RequestError(f"Second moments must be a square matrix, not {total.shape}.", hint=_COLLECT_AGAIN)
        if self.n_tokens <= 0:
            raise RequestError("No calibration token reached these weights.", hint="Use more, or other, text.")
        if not np.isfinite(total.sum(dtype=np.float64)) or np.diagonal(total).min() < 0:
            raise RequestError("Second moments are not finite, or negative.", hint=_COLLECT_AGAIN)

    @property
    def n_cols(self) -> int:
        return len(self.total)

    @property
    def importance(self) -> Floats:
        """The mean square of each input: [n_cols] float32, what an imatrix holds."""
        return (np.diagonal(self.total) / self.n_tokens).astype(np.float32)

    def leaning_on(self, prior: SecondMoments, n_tokens: float) -> SecondMoments:
        """Return these moments with `n_tokens` inputs of `prior`'s mean added.

        For experts that few tokens were sent to: `prior` is the sum over all experts of the layer.

        Raises:
            RequestError: the two have not the same number of columns.
        """
        if prior.n_cols != self.n_cols:
            raise RequestError(f"Moments of {self.n_cols} and {prior.n_cols} columns.", hint=_COLLECT_AGAIN)
        return SecondMoments(self.total + prior.total * (n_tokens / prior.n_tokens), self.n_tokens + n_tokens)

    def mixed_with(self, other: SecondMoments, share: float = 0.5) -> SecondMoments:
        """Return a mixture of these moments and `other`, both in units of their mean square: the mean of the diagonal.

        Args:
            other: of the same columns.
            share: what `other` gets, 0 to 1; these get the rest.

        Raises:
            RequestError: the two have not the same number of columns, or one is 0.
        """
        if other.n_cols != self.n_cols:
            raise RequestError(f"Moments of {self.n_cols} and {other.n_cols} columns.", hint=_COLLECT_AGAIN)
        return SecondMoments((1 - share) * self._in_own_units() + share * other._in_own_units(), 1)

    def _in_own_units(self) -> NDArray[np.floating[Any]]:
        mean_square = np.diagonal(self.total).mean(dtype=np.float64)
        if mean_square == 0:
            raise RequestError("Second moments are all 0.", hint=_COLLECT_AGAIN)
        scaled: NDArray[np.floating[Any]] = self.total / mean_square
        return scaled


@dataclass(frozen=True)
class Conditioning:
    """How far to trust the moments. Fewer tokens need more of both.

    On SmolLM2's ffn_down with 7 tokens a column, shrinkage 0.1 against none takes 8 to 30 points off the loss on text
    that was not in the calibration; damping between 0.003 and 0.1 is worth a few points at most.
    """

    shrinkage: float = 0.1
    """a of (1 - a) H + a diag(H), 0 to 1: what is believed of the correlations. 1 ends the feedback."""
    damping: float = 0.01
    """Added to the diagonal, in units of its mean."""

    def __post_init__(self) -> None:
        if not 0 <= self.shrinkage <= 1:
            raise RequestError(f"Shrinkage {self.shrinkage} is not between 0 and 1.", hint="Try 0.1.")
        if not 0 <= self.damping < np.inf:
            raise RequestError(f"Damping {self.damping} is not a number from 0 up.", hint="Try 0.01.")


@dataclass(frozen=True)
class Factor:
    """H, conditioned, as (U + I) diag(pivots) (U + I)ᵀ with U strictly upper triangular.

    Rounding columns from the first to the last, each to the nearest code to

        w_k + Σ_{j<k} (w_j - q_j) U_jk

    makes the proxy loss Σ_k pivots_k · (what the rounding of column k adds)², the least that columns in this order can
    do (LDLQ: Chee et al. 2023, theorem 1; GPTQ, Frantar et al. 2023, gives the same codes: theorem 6 there).
    """

    coupling: Floats
    """U: [n_cols, n_cols] float32. Below and on the diagonal it is 0."""
    pivots: Floats
    """[n_cols] float32, positive: what is left of an input's mean square once the later inputs are known."""
    hessian: Floats
    """The conditioned H: [n_cols, n_cols] float32."""
    order: Order
    """[n_cols]: which column of the weights each column here is, in the order of coding."""

    @property
    def n_cols(self) -> int:
        return len(self.pivots)

    @property
    def importance(self) -> Floats:
        """[n_cols] float32, positive: what errors in a column cost by themselves."""
        return np.diagonal(self.hessian)

    def part(self, columns: slice) -> Factor:
        """Return what some neighbouring columns know of each other, as views."""
        return Factor(
            self.coupling[columns, columns], self.pivots[columns], self.hessian[columns, columns], self.order[columns]
        )

    def compensation(self, pushed: Floats) -> Floats:
        """Return how these columns best make up, together, for the errors of all columns before them.

        Args:
            pushed: [n_cols, n_rows] float32: Σ_j error_j U_jk, over the columns j before these, for each k of these.

        Returns:
            [n_cols, n_rows] float32, to add to the weights: x of (U + I)ᵀ x = pushed. Rounded without error, column by
            column, these columns would come to that.
        """
        unit = self.coupling.T.astype(np.float64)
        np.fill_diagonal(unit, 1)
        return np.linalg.inv(unit).astype(np.float32) @ pushed

    def moments(self) -> Floats:
        """Return H of these columns, once all later ones make up for what they can: [n_cols, n_cols] float32."""
        root = self.coupling * np.sqrt(self.pivots)
        np.fill_diagonal(root, np.sqrt(self.pivots))
        return root @ root.T


def factorize(
    moments: SecondMoments, conditioning: Conditioning | None = None, *, arrange: Arrange = column_order
) -> Factor:
    """Condition the moments and factor them, the columns in the order that `arrange` makes of their importance.

    The correlations are factored, not H: inputs differ by orders of magnitude, and scaled to unit diagonal float32 is
    enough. A column that was never active has no correlations; it is rounded to nearest, weighted by the damping alone.

    Raises:
        RequestError: the conditioned moments are not positive definite, even in float64.
    """
    conditioning = conditioning or Conditioning()
    variance = np.diagonal(moments.total).astype(np.float64) / moments.n_tokens
    mean = float(variance.mean())
    if mean == 0:
        return _uninformed(moments.n_cols)
    variance += conditioning.damping * mean
    dead = variance == 0
    variance[dead] = mean
    order = arrange(variance)
    variance = variance[order]
    deviation = np.sqrt(variance)
    hessian = moments.total[np.ix_(order, order)].astype(np.float32)
    hessian *= np.float32((1 - conditioning.shrinkage) / moments.n_tokens)
    np.fill_diagonal(hessian, variance)
    upper = _factor_correlations(hessian, deviation, moments.n_tokens)
    root = np.diagonal(upper).astype(np.float64)
    upper /= root.astype(np.float32)
    upper *= deviation.astype(np.float32)[:, None]
    upper /= deviation.astype(np.float32)
    np.fill_diagonal(upper, 0)
    return Factor(upper, ((root * deviation) ** 2).astype(np.float32), hessian, order)


def proxy_loss(error: Floats, moments: SecondMoments) -> float:
    """Return tr(E H Eᵀ) of weight errors [n_rows, n_cols]: the outputs' mean square errors, added up."""
    return float(np.vdot(error @ (moments.total / moments.n_tokens).astype(np.float32), error))


def _uninformed(n_cols: int) -> Factor:
    return Factor(
        np.zeros((n_cols, n_cols), dtype=np.float32),
        np.ones(n_cols, dtype=np.float32),
        np.eye(n_cols, dtype=np.float32),
        np.arange(n_cols),
    )


def _factor_correlations(hessian: Floats, deviation: NDArray[np.float64], n_tokens: float) -> Floats:
    for dtype in (np.float32, np.float64):
        try:
            return upper_factor(_correlations(hessian, deviation.astype(dtype))).astype(np.float32, copy=False)
        except NotPositiveDefinite:
            continue
    raise RequestError(
        f"Second moments of {len(hessian)} columns from {n_tokens:.0f} tokens are not positive definite.",
        hint="Use more calibration text, or more shrinkage or damping.",
    )


def _correlations(hessian: Floats, deviation: NDArray[Any]) -> NDArray[Any]:
    """Return a new [n_cols, n_cols] matrix with unit diagonal."""
    correlations: NDArray[Any] = hessian / deviation[:, None]
    correlations /= deviation
    np.fill_diagonal(correlations, 1)
    return correlations
