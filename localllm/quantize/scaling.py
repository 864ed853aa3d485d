"""Scales that a model's weights are multiplied by before they are rounded, and what is then known of their inputs.

A column that is multiplied by s is to read an input that was divided by s. Who chooses scales sees to it that what
makes that input is divided (`localllm.quantize.awq`); here they are only applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from localllm.errors import RequestError
from localllm.quantize.gptq import SecondMoments
from localllm.quantize.imatrix import Imatrix, ImatrixEntry
from localllm.quantize.moments import Gradients, GradientSource, MomentSource

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TensorScale:
    """Factors of one tensor's weights, all positive: one set for each of its matrices, or one for all of them."""

    cols: Floats | None = None
    """[n_mats or 1, n_cols] float32."""
    rows: Floats | None = None
    """[n_mats or 1, n_rows] float32."""

    def __call__(self, weights: Floats, matrix: int, first: int) -> Floats:
        """Return scaled rows of one matrix.

        Args:
            weights: [n, n_cols] float32.
            matrix: which matrix, from 0.
            first: which of the matrix's rows is the first.

        Returns:
            [n, n_cols] float32, a new array.
        """
        scaled = weights.copy() if self.cols is None else weights * self._of(self.cols, matrix)
        if self.rows is not None:
            scaled *= self._of(self.rows, matrix)[first : first + len(weights), None]
        return scaled

    def with_scale(self, scale: Floats, *, by_rows: bool) -> TensorScale:
        """Return this with factors on the side that has none yet."""
        assert (self.rows if by_rows else self.cols) is None, "a side of a tensor belongs to one fold"
        return replace(self, rows=scale) if by_rows else replace(self, cols=scale)

    def of_input(self, matrix: int) -> Floats | None:
        """Return what the inputs of one matrix are divided by: [n_cols] float32; None: by nothing."""
        return None if self.cols is None else self._of(self.cols, matrix)

    @staticmethod
    def _of(scale: Floats, matrix: int) -> Floats:
        values: Floats = scale[matrix if len(scale) > 1 else 0]
        return values


Scales = Mapping[str, TensorScale]
"""By tensor; one that is not there keeps its weights."""


def scaled_imatrix(imatrix: Imatrix, scales: Scales) -> Imatrix:
    """Return what the importance matrix is of the inputs after scaling."""
    return replace(imatrix, entries={name: _entry(entry, scales.get(name)) for name, entry in imatrix.entries.items()})


def _entry(entry: ImatrixEntry, scale: TensorScale | None) -> ImatrixEntry:
    """The older form of a file has the experts' columns in one row."""
    if scale is None or scale.cols is None:
        return entry
    n_cols = scale.cols.shape[1]
    sums = entry.sums.reshape(-1, n_cols) / scale.cols**2
    return ImatrixEntry(sums.astype(np.float32).reshape(entry.sums.shape), entry.counts)


class ScaledMoments:
    """The second moments of inputs after scaling: S⁻¹ H S⁻¹ (a `MomentSource`)."""

    def __init__(self, source: MomentSource, scales: Scales) -> None:
        self._source = source
        self._scales = scales

    def covers(self, weight: str) -> bool:
        """Whether there are moments of what this tensor reads."""
        return self._source.covers(weight)

    def input_of(self, weight: str) -> str:
        """Return a name of what the tensor reads."""
        return self._source.input_of(weight)

    def second_moments(self, weight: str, matrix: int) -> SecondMoments | None:
        """Return the moments of one matrix; None where no token reached it.

        Raises:
            RequestError: they are damaged, or there are none.
        """
        found = self._source.second_moments(weight, matrix)
        scale = self._scales.get(weight)
        divisor = None if scale is None else scale.of_input(matrix)
        if found is None or divisor is None:
            return found
        return _divided(found, divisor)


class ScaledGradients:
    """The gradients of weights after scaling (a `GradientSource`).

    Inputs are divided by the columns' scales; outputs are multiplied by the rows', so their gradients are divided.
    """

    def __init__(self, source: GradientSource, scales: Scales) -> None:
        self._source = source
        self._scales = scales

    def covers(self, weight: str) -> bool:
        """Whether there are gradients of a weight."""
        return self._source.covers(weight)

    def gradients(self, weight: str) -> Gradients:
        """Return those of one weight, which is one matrix.

        Raises:
            RequestError: they are damaged, or there are none.
        """
        found, scale = self._source.gradients(weight), self._scales.get(weight, TensorScale())
        outputs, start = [], 0
        for block in found.outputs:
            by_rows = None if scale.rows is None else scale.rows[0][start : start + block.n_cols]
            outputs.append(_divided(block, by_rows))
            start += block.n_cols
        return Gradients(_divided(found.inputs, scale.of_input(0)), tuple(outputs))


def _divided(moments: SecondMoments, divisor: Floats | None) -> SecondMoments:
    """Return S⁻¹ H S⁻¹.

    Raises:
        RequestError: the scales are of another number of columns.
    """
    if divisor is None:
        return moments
    if len(divisor) != moments.n_cols:
        raise RequestError(
            f"Moments are of {moments.n_cols} columns; {len(divisor)} are scaled.",
            hint="The calibration is another model's. Calibrate with this one.",
        )
    total = moments.total / divisor[:, None]
    total /= divisor
    return SecondMoments(total, moments.n_tokens)
