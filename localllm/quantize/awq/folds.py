"""A fold: channels that are scaled where they are read and scaled back where they are made, so that nothing changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.quantize.scaling import Floats, TensorScale

NO_CHANNEL = -1
Channels = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Part:
    """What a fold touches of one tensor."""

    tensor: str
    channels: Channels
    """[n]: the channel of each of its columns, or rows; `NO_CHANNEL` for those that stay."""
    by_rows: bool = False
    """A vector (a norm, a bias) is one row, so its values are columns."""

    def along(self, scale: Floats) -> Floats:
        """Return the factors of its columns, or rows: [n_sets, n], of a scale [n_sets, n_channels]."""
        ones = np.ones((len(scale), 1), dtype=np.float32)
        factors: Floats = np.concatenate([scale, ones], axis=1)[:, self.channels]
        return factors


@dataclass(frozen=True, eq=False)
class Fold:
    """Some channels: the tensors that read them, and those that make them."""

    name: str
    """Such as "blk.0.attn_norm": what makes them."""
    readers: tuple[Part, ...]
    """Multiplied by a channel's scale. The first one's inputs say how large the channels are."""
    writers: tuple[Part, ...]
    """Divided by it."""
    n_channels: int
    n_sets: int = 1
    """Of scales: one for each expert where experts make the channels for themselves."""


def tensor_scales(chosen: Iterable[tuple[Fold, Floats]]) -> dict[str, TensorScale]:
    """Return what each tensor is scaled by.

    Args:
        chosen: folds, and the scale of each one's channels: [n_sets, n_channels] float32, positive.
    """
    scales: dict[str, TensorScale] = {}
    for fold, scale in chosen:
        assert scale.shape == (fold.n_sets, fold.n_channels) and (scale > 0).all()
        for parts, factors in ((fold.readers, scale), (fold.writers, np.reciprocal(scale))):
            for part in parts:
                known = scales.get(part.tensor, TensorScale())
                scales[part.tensor] = known.with_scale(part.along(factors), by_rows=part.by_rows)
    return scales
