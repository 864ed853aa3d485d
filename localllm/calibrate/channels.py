"""What the channels of a weight's input are like: how large, how often, how unevenly.

A few channels of a transformer's hidden states are far larger than the others, in the same places in most layers. In 8
bits with one scale for a whole token, they leave the others hardly any values.

Source: Dettmers et al. 2022, "LLM.int8()", section 4.1. An outlier feature has a magnitude of at least 6 in at least
25 % of the layers and 6 % of the positions. They look at hidden states; here, at each kind of input apart, in which a
channel's number means the same in all layers. Positions are counted over all layers of the kind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.calibrate.inputs import OUTPUT_WEIGHTS, MatrixInput, Seen

Floats = NDArray[np.float64]
_OUTPUT = "output"
_PLACE = re.compile(r"^blk\.\d+\.|\.weight$")


@dataclass(frozen=True)
class OutlierRule:
    """When a channel is an outlier."""

    magnitude: float = 6.0
    """What its absolute value reaches,"""
    layer_share: float = 0.25
    """at least once in this share of the layers,"""
    position_share: float = 0.06
    """and in this share of the positions, all layers together."""


@dataclass(frozen=True)
class OutlierChannel:
    """A channel that the rule finds."""

    channel: int
    max: float
    """Largest absolute value in any layer."""
    rms: float
    n_layers: int
    """In which it reaches the magnitude."""
    position_share: float


@dataclass(frozen=True)
class InputProfile:
    """One kind of input in all layers that have it."""

    kind: str
    """The weights that read it, such as "attn_k attn_q attn_v"."""
    n_layers: int
    n_cols: int
    n_rows: int
    """Positions, all layers together; of experts, once for each that reads them."""
    max: float
    """Largest absolute value."""
    rms: float
    kurtosis: float
    """E[x⁴] / E[x²]² over all values: 3 if they are normally distributed, far more with outliers."""
    outliers: tuple[OutlierChannel, ...]
    """The largest first."""


class ChannelSums:
    """What is added up of one layer's input, while its rows come: four numbers for each channel."""

    def __init__(self, source: MatrixInput, magnitude: float) -> None:
        self.source = source
        self._magnitude = magnitude
        self.n_rows = 0
        self.max = np.zeros(source.n_cols)
        """[n_cols] float64: the largest absolute value of each."""
        self.n_over = np.zeros(source.n_cols, dtype=np.int64)
        """[n_cols] int64: in how many rows each reaches the magnitude."""
        self.squares = np.zeros(source.n_cols)
        self.fourths = np.zeros(source.n_cols)
        """[n_cols] float64: sums of second and fourth powers."""

    def add(self, seen: Seen) -> None:
        sizes = np.abs(seen.rows)
        self.n_rows += len(sizes)
        np.maximum(self.max, sizes.max(axis=0, initial=0.0), out=self.max)
        self.n_over += (sizes >= self._magnitude).sum(axis=0)
        self.squares += seen.squares
        powers = np.square(sizes, dtype=np.float64)
        self.fourths += np.einsum("ij,ij->j", powers, powers)


def kind_of(weight: str) -> str:
    """Return what a weight is in every layer: "attn_q" of "blk.7.attn_q.weight"; "output", also under another name."""
    return _OUTPUT if weight in OUTPUT_WEIGHTS else _PLACE.sub("", weight)


def profiles(sums: Iterable[ChannelSums], rule: OutlierRule) -> tuple[InputProfile, ...]:
    """Return what each kind of input is like, in the order of the first layer that has it.

    Args:
        sums: of all inputs, with the rule's magnitude.
        rule: which channels are outliers.
    """
    kinds: dict[tuple[str, int], list[ChannelSums]] = defaultdict(list)
    for one in sums:
        kinds[" ".join(sorted(map(kind_of, one.source.weights))), one.source.n_cols].append(one)
    return tuple(_profile(kind, layers, rule) for (kind, _), layers in kinds.items())


def _profile(kind: str, layers: Sequence[ChannelSums], rule: OutlierRule) -> InputProfile:
    n_rows = max(1, sum(one.n_rows for one in layers))
    largest: Floats = np.max([one.max for one in layers], axis=0)
    mean_squares: Floats = np.sum([one.squares for one in layers], axis=0) / n_rows
    n_layers = np.sum([one.n_over > 0 for one in layers], axis=0)
    shares: Floats = np.sum([one.n_over for one in layers], axis=0) / n_rows
    is_outlier = (n_layers >= rule.layer_share * len(layers)) & (shares >= rule.position_share)
    found = sorted(np.flatnonzero(is_outlier).tolist(), key=lambda channel: -mean_squares[channel])
    square = float(mean_squares.mean())
    fourth = float(np.sum([one.fourths for one in layers]) / (n_rows * len(mean_squares)))
    return InputProfile(
        kind,
        len(layers),
        len(mean_squares),
        sum(one.n_rows for one in layers),
        float(largest.max()),
        square**0.5,
        fourth / square**2 if square else float("nan"),
        tuple(
            OutlierChannel(
                channel,
                float(largest[channel]),
                float(mean_squares[channel]) ** 0.5,
                int(n_layers[channel]),
                float(shares[channel]),
            )
            for channel in found
        ),
    )
