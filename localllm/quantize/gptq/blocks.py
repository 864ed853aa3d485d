"""Blocks as numbers: scales, mins and codes, apart from how their bits lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int16]
Floats = NDArray[np.float32]
Halves = NDArray[np.float16]


@dataclass(frozen=True)
class GroupScale:
    """Scale and min of one group in n blocks.

    Attributes:
        d: [n] float16.
        dmin: [n] float16.
        scale: [n] int16.
        minimum: [n] int16.
    """

    d: Halves
    dmin: Halves
    scale: Integers
    minimum: Integers

    @property
    def step(self) -> Floats:
        """What one level is worth: [n] float32."""
        return self.d.astype(np.float32) * self.scale

    @property
    def offset(self) -> Floats:
        """What level 0 is worth: [n] float32."""
        return -(self.dmin.astype(np.float32) * self.minimum)

    def replaced_where(self, some: NDArray[np.bool_], other: GroupScale) -> GroupScale:
        """Return this with some of the n, [n] bool, as in `other`."""
        return GroupScale(
            np.where(some, other.d, self.d),
            np.where(some, other.dmin, self.dmin),
            np.where(some, other.scale, self.scale),
            np.where(some, other.minimum, self.minimum),
        )


@dataclass
class Blocks:
    """n blocks of one type, taken apart.

    Attributes:
        d: [n] float16.
        dmin: [n] float16; 0 where the type has none.
        scales: [n, n_groups] int16.
        mins: [n, n_groups] int16.
        codes: [n, block_size] uint8.
    """

    d: Halves
    dmin: Halves
    scales: Integers
    mins: Integers
    codes: Bytes

    def group_scale(self, group: int) -> GroupScale:
        """Return scale and min of one group, of all blocks."""
        return GroupScale(self.d, self.dmin, self.scales[:, group], self.mins[:, group])

    def set_group_scale(self, group: int, scale: GroupScale) -> None:
        """Write scale and min of one group. Its d and dmin are then those of the whole block."""
        self.d, self.dmin = scale.d, scale.dmin
        self.scales[:, group], self.mins[:, group] = scale.scale, scale.minimum

    def put_back(self, columns: NDArray[np.intp], groups: NDArray[np.intp]) -> None:
        """Move codes and scales to where they belong: code k to column columns[k], group g to place groups[g]."""
        self.codes = self.codes[:, np.argsort(columns)]
        self.scales, self.mins = self.scales[:, np.argsort(groups)], self.mins[:, np.argsort(groups)]
