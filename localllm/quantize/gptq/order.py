"""In which order columns are coded.

The columns that matter most go first, while all others can still make up for them (GPTQ's "act order"). But a block's
scales stand before its first code, so a block's columns stay together, and a group's: blocks are put in order, groups
within their block, columns within their group. Nested as 256, 32, 16 the order serves every block type, so matrices
that read the same inputs share one factor whatever their types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Order = NDArray[np.intp]
Arrange = Callable[[NDArray[np.floating[Any]]], Order]
"""Makes an order, [n] places, of [n] importances."""

_NESTED = (256, 32, 16)


def column_order(importance: NDArray[np.floating[Any]]) -> Order:
    """Return the columns, [n_cols], in the order of coding: at each level the largest sum of importance first."""
    order: Order = np.arange(len(importance))
    for size in reversed((*(size for size in _NESTED if len(importance) % size == 0), 1)):
        order = _by_sum(order, importance, size, _parent(size, len(importance)))
    return order


def row_order(importance: NDArray[np.floating[Any]]) -> Order:
    """Return the rows, [n_rows], with the most important first: no type ties rows together.

    Rows of one attention head, which are alike, so come into different blocks of rows.
    """
    return np.argsort(-importance, kind="stable")


def _parent(size: int, n_cols: int) -> int:
    """Return the size of the parts within which parts of `size` are put in order."""
    larger = [outer for outer in _NESTED if outer > size and n_cols % outer == 0]
    return min(larger, default=n_cols)


def _by_sum(order: Order, importance: NDArray[np.floating[Any]], size: int, parent: int) -> Order:
    parts = order.reshape(-1, parent // size, size)
    ranks = np.argsort(-importance[parts].sum(axis=2), axis=1, kind="stable")
    return np.take_along_axis(parts, ranks[:, :, None], axis=1).reshape(-1)
