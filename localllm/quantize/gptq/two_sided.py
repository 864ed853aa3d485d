"""Error feedback on both sides: later rows, too, make up for what rounding some rows gets wrong.

`feedback` holds the outputs of one matrix still. What counts is what the whole model says: near the weights, the KL
divergence of its next tokens is a quadratic in an error E [n_rows, n_cols], taken here as a Kronecker product:

    tr(G E H Eᵀ)        H of the inputs, [n_cols, n_cols];  G of the gradients of the outputs, [n_rows, n_rows]

With G = (U + I) diag(p) (U + I)ᵀ it is Σ_i p_i |e_i + Σ_{j<i} U_ji e_j|²_H: each row is the one-sided problem of a
row that is moved by the errors of the rows before it.

Source: Tseng, Sun, De Sa 2025 (YAQA, "Model-preserving adaptive rounding"), section 4. We deviate: rows go in blocks,
all rows of a block at once through `encode_with_feedback`, so that scales are searched and codes swept as without;
rows of one block do not make up for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from localllm.errors import RequestError
from localllm.llama.encoding import decode
from localllm.quantize.gptq.blocks import Bytes, Floats
from localllm.quantize.gptq.feedback import DEFAULT_EFFORT, Effort, encode_with_feedback
from localllm.quantize.gptq.hessian import Factor

N_ROWS = 64
"""Rows of one block. Fewer find more, in q, k and v above all, and take several times the time: on SmolLM2, 16 predicts
a loss that is less by 1 to 13 hundredths of that without feedback between rows."""
_N_PART = 128
"""Rows of all blocks that one thread encodes at a time: fewer cost more each. A number that does not depend on threads,
so the bytes do not either."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """Calls a function for each item, on some threads or one, and returns the results in order."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> list[Result]: ...


def one_by_one(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `function` for each item on this thread."""
    return [function(item) for item in items]


def encode_with_both_feedbacks(
    kind: str,
    weights: Floats,
    inputs: Factor,
    outputs: Sequence[Factor],
    effort: Effort = DEFAULT_EFFORT,
    *,
    n_rows: int = N_ROWS,
    run: Map = one_by_one,
) -> Bytes:
    """Encode all rows of a matrix so that the model's predictions change least.

    Args:
        kind: the block type, by ggml's name; case does not matter.
        weights: [n_rows, n_cols] float32, finite; the whole matrix, since rows know of each other.
        inputs: of the second moments of the inputs, n_cols of them.
        outputs: of the second moments of the outputs' gradients, each in `row_order`: one factor of all n_rows, or one
            for each diagonal block of them, in order.
        effort: how often codes and scales are gone over again.
        n_rows: of a block, at least 1; fewer find more, and take longer.
        run: where the work is done.

    Returns:
        [n_rows, row_bytes] uint8: what ggml decodes, the same whatever the threads.

    Raises:
        RequestError: as `encode_with_feedback`, or the gradients are of other rows.
        ModelError: the weights are not finite, or too large for the type.
    """
    _check(weights, outputs)
    blocks = np.split(weights, np.cumsum([factor.n_cols for factor in outputs])[:-1])
    chains = [_Chain(rows, factor) for rows, factor in zip(blocks, outputs, strict=True)]
    for start in range(0, max(len(chain.rows) for chain in chains), n_rows):
        going = [chain for chain in chains if start < len(chain.rows)]
        moved = run(partial(_Chain.targets, start=start, n_rows=n_rows), going)
        parts = _parts(np.concatenate(moved))
        coded = np.concatenate(run(lambda part: encode_with_feedback(kind, part, inputs, effort), parts))
        ends = np.cumsum([len(targets) for targets in moved])[:-1]
        for chain, mine in zip(going, np.split(coded, ends), strict=True):
            chain.store(kind, start, mine)
    return np.concatenate([chain.coded() for chain in chains])


class _Chain:
    """The rows of one factor, block after block, each moved by what those before it got wrong.

    Attributes:
        rows: [n_rows, n_cols] float32, in the factor's order.
    """

    def __init__(self, weights: Floats, outputs: Factor) -> None:
        self.rows = weights[outputs.order]
        self._outputs = outputs
        self._errors = np.empty_like(self.rows)
        self._coded: list[Bytes] = []

    def targets(self, start: int, n_rows: int) -> Floats:
        """Return what the rows of a block should be."""
        here = slice(start, start + n_rows)
        pushed = self._outputs.coupling[:start, here].T @ self._errors[:start]
        targets: Floats = self.rows[here] + self._outputs.part(here).compensation(pushed)
        return targets

    def store(self, kind: str, start: int, coded: Bytes) -> None:
        """Take what a block has become."""
        here = slice(start, start + len(coded))
        self._coded.append(coded)
        np.subtract(self.rows[here], decode(kind, coded), out=self._errors[here])

    def coded(self) -> Bytes:
        """Return all blocks, in the order of the matrix."""
        return np.concatenate(self._coded)[np.argsort(self._outputs.order)]


def _parts(rows: Floats) -> list[Floats]:
    return [rows[start : start + _N_PART] for start in range(0, len(rows), _N_PART)]


def _check(weights: Floats, outputs: Sequence[Factor]) -> None:
    n_outputs = sum(factor.n_cols for factor in outputs)
    if n_outputs != len(weights):
        raise RequestError(
            f"The gradients are of {n_outputs} outputs; these weights have {len(weights)} rows.",
            hint="The calibration is another model's. Calibrate with this one.",
        )
