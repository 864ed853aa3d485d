"""The columns that share a scale, coded one after the other, all rows at once.

Arrays here have the columns first, [n_cols, n_rows]: one column of all rows is contiguous, and one step of the loop is
a handful of vector operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.quantize.gptq.blocks import Floats
from localllm.quantize.gptq.formats import BlockFormat
from localllm.quantize.gptq.hessian import Factor


@dataclass
class CodedGroup:
    """What became of a group of columns.

    Attributes:
        levels: [group_size, n_rows] float32: the levels of the codes.
        errors: [group_size, n_rows] float32: target minus what the codes stand for.
        losses: [n_rows] float32: what the group adds to each row's proxy loss.
    """

    levels: Floats
    errors: Floats
    losses: Floats

    def take_where(self, better: NDArray[np.bool_], other: CodedGroup) -> None:
        """Replace some rows, [n_rows] bool, by those of another try."""
        np.copyto(self.levels, other.levels, where=better)
        np.copyto(self.errors, other.errors, where=better)
        np.copyto(self.losses, other.losses, where=better)


def code_group(fmt: BlockFormat, targets: Floats, step: Floats, offset: Floats, factor: Factor) -> CodedGroup:
    """Round the columns of a group in order, each with the errors of those before it.

    Args:
        fmt: the block type.
        targets: [group_size, n_rows] float32: the weights, compensated for all columns before the group.
        step: [n_rows] float32: what one level is worth.
        offset: [n_rows] float32: what level 0 is worth.
        factor: of these columns.
    """
    levels, errors = np.empty_like(targets), np.empty_like(targets)
    losses = np.zeros_like(step)
    divisor = np.where(step == 0, np.float32(1), step)
    for k in range(len(targets)):
        target = targets[k] + factor.coupling[:k, k] @ errors[:k]
        levels[k] = fmt.nearest_levels((target - offset) / divisor)
        value = step * levels[k] + offset
        np.subtract(targets[k], value, out=errors[k])
        target -= value
        losses += factor.pivots[k] * target * target
    return CodedGroup(levels, errors, losses)
