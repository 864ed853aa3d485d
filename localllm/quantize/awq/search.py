"""How far to scale each fold's channels: tried with the encoder and the types that the file will have.

A channel is scaled by a power of how large it is, s = E[x²]^(α/2), and α is the one of a grid with the least loss:

    loss(α) = Σ tr(E H Eᵀ) / tr(W H Wᵀ)        E = unscaled(rounded(scaled W)) - W

over the matrices that read the channels and the one that makes them, since its rows are rounded at another scale. That
is the error of each matrix's outputs over the outputs themselves, so that none counts for its units. α = 0 scales
nothing and is in the grid, so by this measure folding never loses. Folds are tried one by one: rounding a row hardly
depends on the row's scale, so what one fold does to rows is little to one that scales columns.

Source: Lin et al. 2023 (AWQ), section 3.2. We deviate: mean squares instead of mean magnitudes; the loss is weighted by
the second moments instead of run through the layer; ggml's weighted encoders instead of a uniform grid; no clipping,
which ggml's scale search does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from localllm.errors import ModelError
from localllm.gguf import GGUFHeader, TensorInfo
from localllm.llama.encoding import decode, encode
from localllm.quantize.awq.folds import Fold, Part
from localllm.quantize.file_types import is_quantized
from localllm.quantize.imatrix import Imatrix
from localllm.quantize.mix import Mix
from localllm.quantize.moments import MomentSource
from localllm.quantize.pipeline import read_rows
from localllm.quantize.scaling import Floats
from localllm.quantize.workers import Workers

ALPHAS = tuple(n / 12 for n in range(12))
"""Powers that are tried, 0 first."""
N_ROWS, N_WEIGHTS = 256, 256 * 1536
"""Of a tensor, what losses are measured on at most: rows, evenly spaced, and weights."""
_LEAST = 1e-6
"""Of a fold's mean square: channels with less are taken to have as much."""

Meter = Callable[[Floats], float]
Losses = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class InputStatistics:
    """What a calibration knows about the inputs of a model's matrices."""

    imatrix: Imatrix
    moments: MomentSource | None = None
    """None: errors are weighted by the importance matrix alone, as if columns knew nothing of each other."""

    def meter(self, tensor: TensorInfo, matrix: int) -> Meter:
        """Return what turns errors of one matrix's weights [n_rows, n_cols] into those of its outputs, squared."""
        if self.moments is not None and self.moments.covers(tensor.name):
            found = self.moments.second_moments(tensor.name, matrix)
            if found is None:
                return lambda _: 0.0
            total = found.total.astype(np.float32, copy=False)
            return lambda error: float(np.vdot(error @ total, error))
        importance = self.imatrix.importance(tensor)
        weights = np.ones(tensor.shape[0], dtype=np.float32) if importance is None else importance[matrix]
        return lambda error: float(np.einsum("ij,ij,j->", error, error, weights))


@dataclass(frozen=True, eq=False)
class FoldChoice:
    """What was found for one fold."""

    fold: Fold
    alpha: float
    scale: Floats
    """[n_sets, n_channels] float32."""
    losses: tuple[float, ...]
    """Of `ALPHAS`."""


def search_folds(
    header: GGUFHeader,
    mix: Mix,
    folds: Sequence[Fold],
    statistics: InputStatistics,
    workers: Workers,
    on_fold: Callable[[int, int], None] = lambda *_: None,
) -> list[FoldChoice]:
    """Choose the scales of each fold whose channels were measured.

    Args:
        header: of the 16-bit source.
        mix: the type of each tensor.
        folds: as `plan_folds` finds them.
        statistics: of the source's inputs.
        workers: the threads to use; the result does not depend on how many.
        on_fold: hears how many folds are done, and how many there are.

    Raises:
        RequestError: the statistics are another model's, or damaged.
        ModelError: the source cannot be read.
    """
    search = _Search(header, mix, statistics, workers)
    choices = []
    for n_done, fold in enumerate(folds, 1):
        choice = search.choose(fold)
        if choice is not None:
            choices.append(choice)
        on_fold(n_done, len(folds))
    return choices


def channel_scale(energy: Floats, alpha: float) -> Floats:
    """Return scales of channels, with a geometric mean of 1 in each set.

    Args:
        energy: [n_sets, n_channels] float32, not negative: mean squares.
        alpha: from 0, where all scales are 1, to 1, where all channels become equally large.
    """
    mean = energy.mean(axis=1, keepdims=True, dtype=np.float64)
    logs = np.log(np.where(mean > 0, np.maximum(energy, _LEAST * mean), 1.0)) * (alpha / 2)
    scale: Floats = np.exp(logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)
    return scale


class _Search:
    """Tries scales, fold by fold; in memory are some rows of one matrix at a time, and its H."""

    def __init__(self, header: GGUFHeader, mix: Mix, statistics: InputStatistics, workers: Workers) -> None:
        self._header = header
        self._tensors = {tensor.name: tensor for tensor in header.tensors}
        self._mix = mix
        self._statistics = statistics
        self._workers = workers

    def choose(self, fold: Fold) -> FoldChoice | None:
        energy = self._energy(fold)
        if energy is None:
            return None
        scales = [channel_scale(energy, alpha) for alpha in ALPHAS]
        losses = np.zeros(len(ALPHAS))
        for part in fold.readers:
            losses += self._losses(part, scales)
        for part in fold.writers:
            losses += self._losses(part, [np.reciprocal(scale) for scale in scales])
        best = int(np.argmin(losses))
        return FoldChoice(fold, ALPHAS[best], scales[best], tuple(map(float, losses)))

    def _energy(self, fold: Fold) -> Floats | None:
        """Return the mean square of each channel: [n_sets, n_channels] float32; None where it was not measured.

        Over the columns that share a channel, and, where experts share it, over the experts.
        """
        for part in fold.readers:
            importance = self._statistics.imatrix.importance(self._tensors[part.tensor])
            if importance is not None:
                sets = importance if fold.n_sets > 1 else importance.mean(axis=0, keepdims=True)
                totals = [np.bincount(part.channels, each, fold.n_channels) for each in sets]
                return (totals / np.bincount(part.channels, minlength=fold.n_channels)).astype(np.float32)
        return None

    def _losses(self, part: Part, scales: Sequence[Floats]) -> Losses:
        """Return the error of a tensor's outputs under each scale, over the outputs."""
        tensor, kind = self._tensors[part.tensor], self._mix.types[part.tensor].name
        losses, power = np.zeros(len(scales)), 0.0
        if not is_quantized(self._mix.types[part.tensor]):
            return losses
        n_mats = tensor.n_params // (tensor.shape[0] * tensor.shape[1])
        rows_at = _sampled(tensor, part, max(1, min(N_ROWS, N_WEIGHTS // tensor.shape[0]) // n_mats))
        for matrix in range(n_mats):
            rows = self._rows(tensor, matrix, rows_at, kind, by_rows=part.by_rows)
            factors = [part.along(scale)[matrix if len(scale) > 1 else 0] for scale in scales]
            losses += self._workers.map(rows.loss, factors)
            power += rows.meter(rows.weights)
        return losses / power if power > 0 else np.zeros(len(scales))

    def _rows(self, tensor: TensorInfo, matrix: int, rows_at: Places, kind: str, *, by_rows: bool) -> _Rows:
        stored = read_rows(self._header, tensor, matrix * tensor.shape[1], tensor.shape[1])[rows_at]
        importance = self._statistics.imatrix.importance(tensor)
        return _Rows(
            kind,
            decode(tensor.type.name, stored),
            None if importance is None else importance[matrix],
            self._statistics.meter(tensor, matrix),
            rows_at if by_rows else None,
        )


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of one matrix, and what errors in them cost."""

    kind: str
    weights: Floats
    """[n_rows, n_cols] float32."""
    importance: Floats | None
    """[n_cols] float32."""
    meter: Meter
    rows_at: Places | None
    """Which rows of the matrix they are, where rows are scaled; None where columns are."""

    def loss(self, factors: Floats) -> float:
        """Return what rounding costs after scaling all of the matrix's rows, or columns, by these factors."""
        scale, importance = factors, self.importance
        if self.rows_at is not None:
            scale = factors[self.rows_at][:, None]
        elif importance is not None:
            importance = importance / factors**2
        try:
            coded = encode(self.kind, self.weights * scale, importance)
        except ModelError:  # the type cannot hold what is scaled so far
            return math.inf
        return self.meter(decode(self.kind, coded) / scale - self.weights)


def _sampled(tensor: TensorInfo, part: Part, n_most: int) -> Places:
    """Return which rows to look at: of those that the fold touches, evenly spaced."""
    touched = np.flatnonzero(part.channels >= 0) if part.by_rows else np.arange(tensor.shape[1])
    places = np.linspace(0, len(touched) - 1, min(len(touched), n_most)).astype(np.intp)
    return touched[places]
