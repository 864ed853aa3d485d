"""Coordinate descent: each code once more, now that all others are known, and each scale.

Feedback chooses a column before the later ones exist. Afterwards the proxy loss e H eᵀ of a row is a quadratic in each
weight's error with the rest held: column k's best value is the stored one plus (H e)_k / H_kk, and going to the code
nearest to it can only lower the loss. So does a group's scale that is fitted to its codes, kept only where it does.

Source: Behdin et al. 2023 (QuantEase), section 3. We start from feedback instead of rounding, and move scales too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localllm.quantize.gptq.blocks import Blocks, Floats
from localllm.quantize.gptq.formats import BlockFormat
from localllm.quantize.gptq.refit import dot_rows, fitted_scale


def descend(fmt: BlockFormat, blocks: list[Blocks], weights: Floats, errors: Floats, hessian: Floats) -> None:
    """Go over all columns once, from the first block to the last; changes `blocks` and `errors`.

    Args:
        fmt: the block type.
        blocks: the blocks of all rows, one entry for each block of a row.
        weights: [n_cols, n_rows] float32.
        errors: [n_cols, n_rows] float32: weights minus what the blocks hold.
        hessian: [n_cols, n_cols] float32, positive definite.
    """
    for index, parts in enumerate(blocks):
        here = slice(index * fmt.block_size, (index + 1) * fmt.block_size)
        own = hessian[here, here]
        gradient = hessian[here] @ errors
        for group in range(fmt.scales.n_groups):
            _Group(fmt, parts, group, weights[here], errors[here], gradient, own).descend()


@dataclass
class _Group:
    """One group of every row, with the block around it: arrays of [block_size, n_rows], and H of the block."""

    fmt: BlockFormat
    parts: Blocks
    index: int
    weights: Floats
    errors: Floats
    gradient: Floats
    """H e of the block's columns."""
    hessian: Floats

    @property
    def here(self) -> slice:
        return slice(self.index * self.fmt.group_size, (self.index + 1) * self.fmt.group_size)

    def descend(self) -> None:
        self._change(self._for_better_scale())
        self._change(self._for_better_codes())

    def _change(self, by: Floats) -> None:
        """Add [group_size, n_rows] to what is stored."""
        self.errors[self.here] -= by
        self.gradient -= self.hessian[:, self.here] @ by

    def _for_better_scale(self) -> Floats:
        """Fit the scale to the codes, and return what that changes."""
        fmt, scale, gradient = self.fmt, self.parts.group_scale(self.index), self.gradient[self.here]
        own = self.hessian[self.here, self.here]
        levels = fmt.levels[self.parts.codes[:, self.here].T]
        stored = self.weights[self.here] - self.errors[self.here]
        best = stored + np.linalg.solve(own.astype(np.float64), gradient).astype(np.float32)
        fitted = fitted_scale(fmt, scale, levels, best, own)
        change = fitted.step * levels + fitted.offset - stored
        better = 2 * dot_rows(change, gradient) > dot_rows(change, own @ change)
        self.parts.set_group_scale(self.index, scale.replaced_where(better, fitted))
        return change * better

    def _for_better_codes(self) -> Floats:
        """Choose the codes again, column by column, and return what that changes."""
        scale, gradient = self.parts.group_scale(self.index), self.gradient[self.here]
        own = self.hessian[self.here, self.here]
        step, offset = scale.step, scale.offset
        divisor = np.where(step == 0, np.float32(1), step)
        stored = self.weights[self.here] - self.errors[self.here]
        change, levels = np.empty_like(stored), np.empty_like(stored)
        for k in range(len(stored)):
            best = stored[k] + (gradient[k] - own[k, :k] @ change[:k]) / own[k, k]
            levels[k] = self.fmt.nearest_levels((best - offset) / divisor)
            np.subtract(step * levels[k] + offset, stored[k], out=change[k])
        self.parts.codes[:, self.here] = self.fmt.codes_of(levels).T
        return change
