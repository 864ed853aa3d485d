"""GPTQ inside ggml's blocks: what rounding one column gets wrong, the columns after it make up for.

Block by block, in the factor's order: the block's weights are compensated for the errors of all columns so
far (one matrix product); ggml's own weighted search chooses the block's scales and mins for these compensated weights;
group by group and column by column the codes are then chosen, each for its weight with all errors before it pushed in.
The scales stand, rounded to 16 bits as the file holds them, before the first code of a group is chosen.

Rows do not know of each other, so a caller may split a matrix by rows. But BLAS adds up in an order that depends on the
number of rows and of threads, and a last bit may turn a code: the same bytes come from the same split and threads.

Source: Frantar et al. 2023 (GPTQ), section 3.3; Chee et al. 2023 (QuIP), section 3.1. We deviate: the scales are
searched with weights, on what is compensated; the factor is that of H and not of its inverse; the error that is pushed
on is the weight's whole error, so that each block reads the past once instead of writing the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from localllm.errors import RequestError
from localllm.llama.encoding import encode
from localllm.quantize.gptq.blocks import Blocks, Bytes, Floats
from localllm.quantize.gptq.descent import descend
from localllm.quantize.gptq.formats import BlockFormat, block_format
from localllm.quantize.gptq.group import CodedGroup, code_group
from localllm.quantize.gptq.hessian import Factor
from localllm.quantize.gptq.order import Order
from localllm.quantize.gptq.refit import fitted_scale


@dataclass(frozen=True)
class Effort:
    """How often what is coded is gone over again."""

    n_refits: int = 1
    """How often a group's scale is fitted again to its codes, and the codes to the scale; a try that does not lower the
    loss is dropped."""
    n_sweeps: int = 1
    """How often, in the end, all codes and scales are gone over by coordinate descent."""


DEFAULT_EFFORT = Effort()


def encode_with_feedback(kind: str, weights: Floats, factor: Factor, effort: Effort = DEFAULT_EFFORT) -> Bytes:
    """Encode rows of weights so that their outputs change least.

    Args:
        kind: the block type, by ggml's name; case does not matter.
        weights: [n_rows, n_cols] float32, finite.
        factor: of the second moments of the inputs, n_cols of them.
        effort: how often codes and scales are gone over again.

    Returns:
        [n_rows, row_bytes] uint8: what ggml decodes.

    Raises:
        RequestError: no such type, its blocks do not divide the columns, or the factor is of other columns.
        ModelError: the weights are not finite, or too large for the type.
    """
    fmt = block_format(kind)
    _check(fmt, weights, factor)
    n_cols = weights.shape[1]
    columns = weights.T[factor.order]
    errors = np.empty_like(columns)
    blocks = []
    for start in range(0, n_cols, fmt.block_size):
        here = slice(start, start + fmt.block_size)
        pushed = factor.coupling[:start, here].T @ errors[:start]
        blocks.append(_code_block(fmt, columns[here], pushed, errors[here], factor.part(here), effort.n_refits))
    for _ in range(effort.n_sweeps):
        descend(fmt, blocks, columns, errors, factor.hessian)
    return _packed(fmt, blocks, factor.order)


def _code_block(
    fmt: BlockFormat, weights: Floats, pushed: Floats, errors: Floats, factor: Factor, n_refits: int
) -> Blocks:
    """Code one block of every row; [block_size, n_rows] each. Writes `errors`: weights minus what is stored."""
    targets = weights + factor.compensation(pushed)
    blocks = fmt.unpack(encode(fmt.name, targets.T, factor.importance))
    for group in range(fmt.scales.n_groups):
        here = slice(group * fmt.group_size, (group + 1) * fmt.group_size)
        part = factor.part(here)
        moved = part.compensation(pushed[here] + factor.coupling[: here.start, here].T @ errors[: here.start])
        coded = _code_group(fmt, blocks, group, weights[here] + moved, part, n_refits)
        np.subtract(coded.errors, moved, out=errors[here])
        blocks.codes[:, here] = fmt.codes_of(coded.levels).T
    return blocks


def _code_group(
    fmt: BlockFormat, blocks: Blocks, group: int, targets: Floats, factor: Factor, n_refits: int
) -> CodedGroup:
    """Code one group, and let scale and codes settle on each other. Writes the group's scale into `blocks`."""
    scale, moments = blocks.group_scale(group), factor.moments()
    best = code_group(fmt, targets, scale.step, scale.offset, factor)
    for _ in range(n_refits):
        refitted = fitted_scale(fmt, scale, best.levels, targets, moments)
        again = code_group(fmt, targets, refitted.step, refitted.offset, factor)
        better = again.losses < best.losses
        best.take_where(better, again)
        scale = scale.replaced_where(better, refitted)
    blocks.set_group_scale(group, scale)
    return best


def _packed(fmt: BlockFormat, blocks: list[Blocks], order: Order) -> Bytes:
    """Put columns, groups and blocks back where they were, and their bytes together."""
    coded = np.empty((len(blocks[0].d), len(blocks), fmt.block_bytes), dtype=np.uint8)
    for index, parts in enumerate(blocks):
        columns = order[index * fmt.block_size : (index + 1) * fmt.block_size]
        inside = columns % fmt.block_size
        parts.put_back(inside, inside[:: fmt.group_size] // fmt.group_size)
        coded[:, columns[0] // fmt.block_size] = fmt.pack(parts)
    return coded.reshape(len(coded), len(blocks) * fmt.block_bytes)


def _check(fmt: BlockFormat, weights: Floats, factor: Factor) -> None:
    n_cols = weights.shape[1]
    if n_cols % fmt.block_size:
        raise RequestError(
            f"{fmt.name.upper()} takes blocks of {fmt.block_size} columns; these weights have {n_cols}.",
            hint="Choose the type's fallback, such as Q4_0 for Q3_K, Q5_0 for Q4_K, IQ4_NL for IQ4_XS, Q8_0 for Q6_K.",
        )
    if factor.n_cols != n_cols:
        raise RequestError(
            f"The second moments are of {factor.n_cols} inputs; these weights have {n_cols} columns.",
            hint="The calibration is another model's. Calibrate with this one.",
        )
