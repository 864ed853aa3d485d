"""ggml's block types, taken apart into numbers and put together again.

Every type here stores a weight as

    d · scale · level[code] - dmin · min

with d and dmin 16-bit floats of the block, scale and min integers of the group, and code an index into the type's
levels: evenly spaced, or the codebook of the IQ4 types. Types without scales have one group a block and scale 1; types
without a min have dmin 0.

This module knows where the bits are; what they should be is decided in `feedback`.

Source: ggml-common.h (the structs), ggml-quants.c (`dequantize_row_*`), at the pinned version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME
from localllm.quantize.gptq.bits import join_bits, split_bits
from localllm.quantize.gptq.blocks import Blocks, Bytes, Floats, Halves
from localllm.quantize.gptq.scales import (
    ByteScales,
    NibbleScales,
    NoScales,
    ScaleCodec,
    SixBitScalesAndMins,
    SplitSixBitScales,
)


@dataclass(frozen=True)
class CodeBits:
    """Where some bits of every code are: bits low … low + n_bits of the code, `width` apart as in `join_bits`."""

    at: int
    n_bits: int
    width: int
    low: int = 0
    flip: int = 0
    """Bits that are stored the other way round."""


@dataclass(frozen=True, eq=False)
class BlockFormat:
    """One of ggml's block types."""

    name: str
    """ggml's name."""
    levels: Floats
    """[n_codes] float32, ascending: what each code stands for."""
    codes: tuple[CodeBits, ...]
    scales: ScaleCodec
    d_at: int = 0
    dmin_at: int | None = None

    @property
    def block_size(self) -> int:
        """Weights in a block."""
        return GGML_TYPES_BY_NAME[self.name].block_size

    @property
    def block_bytes(self) -> int:
        return GGML_TYPES_BY_NAME[self.name].block_bytes

    @property
    def group_size(self) -> int:
        """Weights that share a scale."""
        return self.block_size // self.scales.n_groups

    @cached_property
    def is_uniform(self) -> bool:
        """The levels are consecutive integers."""
        return bool(np.all(np.diff(self.levels) == 1))

    @cached_property
    def middles(self) -> Floats:
        """[n_codes - 1] float32: where one level's neighbourhood ends and the next one's begins."""
        return (self.levels[1:] + self.levels[:-1]) / np.float32(2)

    @property
    def has_group_scales(self) -> bool:
        """Groups have integer scales below the block's d."""
        return self.scales.scale_range[0] != self.scales.scale_range[1]

    @property
    def has_min(self) -> bool:
        return self.dmin_at is not None

    def unpack(self, blocks: Bytes) -> Blocks:
        """Take blocks apart: [n, block_bytes] uint8."""
        scales, mins = self.scales.unpack(blocks)
        return Blocks(
            self._half(blocks, self.d_at), self._half(blocks, self.dmin_at), scales, mins, self._codes(blocks)
        )

    def pack(self, parts: Blocks) -> Bytes:
        """Put blocks together: [n, block_bytes] uint8."""
        blocks = np.zeros((len(parts.d), self.block_bytes), dtype=np.uint8)
        blocks[:, self.d_at : self.d_at + 2] = _bytes_of(parts.d)
        if self.dmin_at is not None:
            blocks[:, self.dmin_at : self.dmin_at + 2] = _bytes_of(parts.dmin)
        self.scales.pack(parts.scales, parts.mins, blocks)
        for bits in self.codes:
            some = (parts.codes >> np.uint8(bits.low) & np.uint8(2**bits.n_bits - 1)) ^ np.uint8(bits.flip)
            blocks[:, self._place(bits)] = join_bits(some, bits.n_bits, bits.width)
        return blocks

    def nearest_levels(self, values: Floats) -> Floats:
        """Return the level nearest to each value, of values in steps: float32, the same shape.

        Halves go to the even level, and between levels of the codebook up, as ggml rounds.
        """
        if self.is_uniform:
            return np.clip(np.rint(values), self.levels[0], self.levels[-1])
        return self.levels[np.searchsorted(self.middles, values, side="right")]

    def codes_of(self, levels: Floats) -> Bytes:
        """Return the codes that stand for these levels: uint8, the same shape."""
        if self.is_uniform:
            return np.asarray(levels - self.levels[0], dtype=np.uint8)
        return np.searchsorted(self.levels, levels).astype(np.uint8)

    def _half(self, blocks: Bytes, at: int | None) -> Halves:
        if at is None:
            return np.zeros(len(blocks), dtype=np.float16)
        return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")[:, 0]

    def _codes(self, blocks: Bytes) -> Bytes:
        codes = np.zeros((len(blocks), self.block_size), dtype=np.uint8)
        for bits in self.codes:
            some = split_bits(blocks[:, self._place(bits)], bits.n_bits, bits.width)
            codes |= (some ^ np.uint8(bits.flip)) << np.uint8(bits.low)
        return codes

    def _place(self, bits: CodeBits) -> slice:
        return slice(bits.at, bits.at + self.block_size * bits.n_bits // 8)


def _bytes_of(halves: Halves) -> Bytes:
    """Return [n, 2] uint8, little-endian as in the file."""
    return np.ascontiguousarray(halves, dtype="<f2").reshape(-1, 1).view(np.uint8)


def _integers(first: int, last: int) -> Floats:
    return np.arange(first, last + 1, dtype=np.float32)


_CODEBOOK = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.float32)
"""`kvalues_iq4nl` in ggml-common.h."""

FORMATS: dict[str, BlockFormat] = {
    entry.name: entry
    for entry in (
        BlockFormat("q4_0", _integers(-8, 7), (CodeBits(2, 4, 16),), NoScales()),
        BlockFormat("q4_1", _integers(0, 15), (CodeBits(4, 4, 16),), NoScales(adds_min=True), dmin_at=2),
        BlockFormat("q5_0", _integers(-16, 15), (CodeBits(6, 4, 16), CodeBits(2, 1, 1, low=4)), NoScales()),
        BlockFormat(
            "q5_1", _integers(0, 31), (CodeBits(8, 4, 16), CodeBits(4, 1, 1, low=4)), NoScales(adds_min=True), dmin_at=2
        ),
        BlockFormat("q8_0", _integers(-128, 127), (CodeBits(2, 8, 32, flip=0x80),), NoScales()),
        BlockFormat("q2_K", _integers(0, 3), (CodeBits(16, 2, 32),), NibbleScales(), d_at=80, dmin_at=82),
        BlockFormat(
            "q3_K",
            _integers(-4, 3),
            (CodeBits(32, 2, 32), CodeBits(0, 1, 32, low=2)),
            SplitSixBitScales(16, low_at=96, low_width=8, high_at=104, high_width=4),
            d_at=108,
        ),
        BlockFormat("q4_K", _integers(0, 15), (CodeBits(16, 4, 32),), SixBitScalesAndMins(), dmin_at=2),
        BlockFormat(
            "q5_K",
            _integers(0, 31),
            (CodeBits(48, 4, 32), CodeBits(16, 1, 32, low=4)),
            SixBitScalesAndMins(),
            dmin_at=2,
        ),
        BlockFormat(
            "q6_K", _integers(-32, 31), (CodeBits(0, 4, 64), CodeBits(128, 2, 32, low=4)), ByteScales(), d_at=208
        ),
        BlockFormat("iq4_nl", _CODEBOOK, (CodeBits(2, 4, 16),), NoScales()),
        BlockFormat(
            "iq4_xs",
            _CODEBOOK,
            (CodeBits(8, 4, 16),),
            SplitSixBitScales(8, low_at=4, low_width=1, high_at=2, high_width=1),
        ),
    )
}
"""The types that weights can be fed back in, by ggml's names."""

_BY_LOWER_NAME = {name.lower(): entry for name, entry in FORMATS.items()}


def block_format(name: str) -> BlockFormat:
    """Return the type of this name, in upper or lower case.

    Raises:
        RequestError: errors are not fed back in such a type.
    """
    try:
        return _BY_LOWER_NAME[name.lower()]
    except KeyError:
        choices = ", ".join(entry.upper() for entry in FORMATS)
        raise RequestError(f"Error feedback does not know the type {name!r}.", hint=f"One of {choices}.") from None
