"""Small numbers in bytes, the way all of ggml's block types lay them out.

A byte holds 8 / n_bits numbers that are `width` apart: of every 8 / n_bits · width numbers in a row, byte j holds those
at j, j + width, j + 2·width …, the first in the lowest bits.
"""

from __future__ import annotations

import numpy as np

from localllm.quantize.gptq.blocks import Bytes


def join_bits(numbers: Bytes, n_bits: int, width: int) -> Bytes:
    """Pack numbers below 2**n_bits.

    Args:
        numbers: [n, n_numbers] uint8; n_numbers is a multiple of 8 / n_bits · width.
        n_bits: 1, 2, 4 or 8.
        width: how far apart the numbers of one byte are.

    Returns:
        [n, n_numbers · n_bits / 8] uint8.
    """
    n_bytes = numbers.shape[1] * n_bits // 8
    planes = numbers.reshape(len(numbers), n_bytes // width, 8 // n_bits, width)
    packed: Bytes = np.bitwise_or.reduce(planes << _shifts(n_bits), axis=2)
    return packed.reshape(len(numbers), n_bytes)


def split_bits(packed: Bytes, n_bits: int, width: int) -> Bytes:
    """Undo `join_bits`: [n, n_bytes] uint8 to [n, n_bytes · 8 / n_bits] uint8."""
    planes = packed.reshape(len(packed), packed.shape[1] // width, 1, width) >> _shifts(n_bits)
    return (planes & np.uint8(2**n_bits - 1)).reshape(len(packed), packed.shape[1] * 8 // n_bits)


def _shifts(n_bits: int) -> Bytes:
    return np.arange(0, 8, n_bits, dtype=np.uint8)[:, None]
