"""A Cholesky factor with the upper triangle first: A = R Rᵀ, R upper triangular.

NumPy factors in float64 only and from the other corner. This one works in blocks, in the precision of its input, in
place: nearly all of its n³ / 3 multiplications are one matrix product a block, and an 8,960-column H in float32 takes
321 MB and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256


class NotPositiveDefinite(ArithmeticError):
    """The matrix has no factor, in this precision."""


def upper_factor(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return R of matrix = R Rᵀ, written over `matrix`; zeros below the diagonal.

    Args:
        matrix: [n, n] float32 or float64, symmetric; the upper triangle is read.

    Raises:
        NotPositiveDefinite: there is none; `matrix` is spoiled.
    """
    n = len(matrix)
    for start in reversed(range(0, n, _BLOCK)):
        stop = min(start + _BLOCK, n)
        here, later = slice(start, stop), slice(stop, n)
        matrix[:stop, here] -= matrix[:stop, later] @ matrix[here, later].T
        corner = _small_factor(matrix[here, here])
        matrix[:start, here] = matrix[:start, here] @ np.linalg.inv(corner).T.astype(matrix.dtype)
        matrix[here, here] = corner
        matrix[here, :start] = 0
    return matrix


def _small_factor(corner: NDArray[Any]) -> NDArray[np.float64]:
    """The same for one block: the ordinary factor of the block turned around."""
    try:
        lower = np.linalg.cholesky(corner[::-1, ::-1].astype(np.float64))
    except np.linalg.LinAlgError:
        raise NotPositiveDefinite from None
    if not np.isfinite(lower[-1, -1]):
        raise NotPositiveDefinite
    return lower[::-1, ::-1]
