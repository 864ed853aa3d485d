"""A group's scale, fitted again to the codes that error feedback chose.

The search chose scale and min for codes that are each nearest to their own weight. With feedback the codes are others;
what is best for them under the group's moments M is a least squares problem in two unknowns, step s and offset o:

    min (t - s·l - o)ᵀ M (t - s·l - o)        t targets, l levels

whose solution goes to the nearest that the format can hold.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from localllm.quantize.gptq.blocks import Floats, GroupScale, Halves, Integers
from localllm.quantize.gptq.formats import BlockFormat

_LARGEST_HALF = float(np.finfo(np.float16).max)


def fitted_scale(fmt: BlockFormat, scale: GroupScale, levels: Floats, targets: Floats, moments: Floats) -> GroupScale:
    """Return the storable scale that is nearly best for these codes.

    Args:
        fmt: the block type.
        scale: what the group has; of a format with scales by group, d and dmin stand.
        levels: [group_size, n_rows] float32.
        targets: [group_size, n_rows] float32: the weights, with the errors of other columns pushed in.
        moments: [group_size, group_size] float32: what errors in these columns cost.
    """
    weighted = moments @ levels
    ll, lt = dot_rows(levels, weighted), dot_rows(targets, weighted)
    if not fmt.has_min:
        return _with_step(fmt, scale, _divide(lt, ll, scale.step))
    ones = moments.sum(axis=0)
    l1, t1, n = ones @ levels, ones @ targets, ones.sum()
    step = _divide(n * lt - l1 * t1, n * ll - l1 * l1, scale.step)
    fitted = _with_step(fmt, scale, step)
    return _with_offset(fmt, fitted, (t1 - fitted.step * l1) / n)


def dot_rows(a: Floats, b: Floats) -> Floats:
    """Return the dot product of every two columns: [n_rows] float32."""
    product: Floats = np.einsum("kr,kr->r", a, b)
    return product


def _divide(over: Floats, under: Floats, otherwise: Floats) -> Floats:
    """Where all codes are one there is nothing to fit."""
    return np.divide(over, under, out=otherwise.copy(), where=under > 0)


def _with_step(fmt: BlockFormat, scale: GroupScale, step: Floats) -> GroupScale:
    """Return the scale whose step is nearest to this: by the group's integer, or by d where there is none."""
    if fmt.has_group_scales:
        return replace(scale, scale=_nearest_integer(step, scale.d, fmt.scales.scale_range))
    return replace(scale, d=_nearest_half(step))


def _with_offset(fmt: BlockFormat, scale: GroupScale, offset: Floats) -> GroupScale:
    """Return the scale whose offset is nearest to this, the same way."""
    if fmt.has_group_scales:
        return replace(scale, minimum=_nearest_integer(-offset, scale.dmin, fmt.scales.min_range))
    return replace(scale, dmin=_nearest_half(-offset * fmt.scales.min_range[0]))


def _nearest_half(values: Floats) -> Halves:
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)


def _nearest_integer(values: Floats, unit: Halves, bounds: tuple[int, int]) -> Integers:
    wide = unit.astype(np.float32)
    quotient = np.divide(values, wide, out=np.zeros_like(values), where=wide != 0)
    return np.clip(np.rint(quotient), *bounds).astype(np.int16)
