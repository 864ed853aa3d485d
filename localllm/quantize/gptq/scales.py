"""The integer scales and mins that k-quants keep for each group of a super-block, and how their bits lie.

Source: ggml-common.h (the structs), ggml-quants.c (`get_scale_min_k4`, `dequantize_row_*`), at the pinned version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from localllm.quantize.gptq.bits import join_bits, split_bits
from localllm.quantize.gptq.blocks import Bytes, Integers


class ScaleCodec(ABC):
    """How a type stores the scales and mins of a block's groups: [n_blocks, n_groups] int16 each."""

    n_groups: int
    scale_range: tuple[int, int]
    """The least and the greatest scale."""
    min_range: tuple[int, int] = (0, 0)
    """The least and the greatest min; (0, 0): the type has none."""

    @abstractmethod
    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        """Return scales and mins of whole blocks, [n_blocks, block_bytes]."""

    @abstractmethod
    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        """Write scales and mins, each within its range, into whole blocks."""


class NoScales(ScaleCodec):
    """One group, whose scale is d itself. A type that adds its 16-bit min counts as taking it off -1 times."""

    n_groups = 1
    scale_range = (1, 1)

    def __init__(self, *, adds_min: bool = False) -> None:
        self.min_range = (-1, -1) if adds_min else (0, 0)

    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        shape = (len(blocks), 1)
        return np.ones(shape, dtype=np.int16), np.full(shape, self.min_range[0], dtype=np.int16)

    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        """There is nothing to write."""


class NibbleScales(ScaleCodec):
    """Q2_K: a byte for each of 16 groups, scale below, min above."""

    n_groups = 16
    scale_range = min_range = (0, 15)

    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        stored = blocks[:, :16].astype(np.int16)
        return stored & 15, stored >> 4

    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        blocks[:, :16] = scales | mins << 4


class SixBitScalesAndMins(ScaleCodec):
    """Q4_K, Q5_K: 8 scales and 8 mins of 6 bits in 12 bytes; the last four of each are torn apart."""

    n_groups = 8
    scale_range = min_range = (0, 63)

    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        first, second, low = np.split(blocks[:, 4:16].astype(np.int16), 3, axis=1)
        scales = np.hstack([first & 63, (low & 15) | first >> 6 << 4])
        mins = np.hstack([second & 63, low >> 4 | second >> 6 << 4])
        return scales, mins

    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        blocks[:, 4:8] = scales[:, :4] | scales[:, 4:] >> 4 << 6
        blocks[:, 8:12] = mins[:, :4] | mins[:, 4:] >> 4 << 6
        blocks[:, 12:16] = (scales[:, 4:] & 15) | (mins[:, 4:] & 15) << 4


class SplitSixBitScales(ScaleCodec):
    """Q3_K, IQ4_XS: scales from -32 to 31, the low four bits in one place and the high two in another."""

    scale_range = (-32, 31)

    def __init__(self, n_groups: int, low_at: int, low_width: int, high_at: int, high_width: int) -> None:
        self.n_groups = n_groups
        self._low = slice(low_at, low_at + n_groups // 2), low_width
        self._high = slice(high_at, high_at + n_groups // 4), high_width

    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        (low_at, low_width), (high_at, high_width) = self._low, self._high
        low = split_bits(blocks[:, low_at], 4, low_width)
        high = split_bits(blocks[:, high_at], 2, high_width)
        scales = (low | high << 4).astype(np.int16) - 32
        return scales, np.zeros_like(scales)

    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        (low_at, low_width), (high_at, high_width) = self._low, self._high
        stored = (scales + 32).astype(np.uint8)
        blocks[:, low_at] = join_bits(stored & np.uint8(15), 4, low_width)
        blocks[:, high_at] = join_bits(stored >> np.uint8(4), 2, high_width)


class ByteScales(ScaleCodec):
    """Q6_K: a signed byte for each of 16 groups."""

    n_groups = 16
    scale_range = (-128, 127)

    def unpack(self, blocks: Bytes) -> tuple[Integers, Integers]:
        scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.int16)
        return scales, np.zeros_like(scales)

    def pack(self, scales: Integers, mins: Integers, blocks: Bytes) -> None:
        blocks[:, 192:208] = scales.astype(np.int8).view(np.uint8)
