"""Models folded by any scales, without rounding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from localllm.gguf import GGUFHeader, read_header
from localllm.quantize import Mix, Rtn, Workers, file_type, quantize
from localllm.quantize.awq import Fold, plan_folds, tensor_scales
from localllm.quantize.categories import file_order


def as_it_is(header: GGUFHeader) -> Mix:
    """Return a mix that leaves every type alone."""
    return Mix(file_type("F16"), {tensor.name: tensor.type for tensor in sorted(header.tensors, key=file_order)})


def fold_at_random(source: Path, target: Path, folds: Sequence[Fold] | None = None, *, slab_bytes: int = 4096) -> Path:
    """Write a model whose channels are scaled by random factors, a few rows at a time.

    Args:
        source: the model.
        target: the file to write.
        folds: which; None: all that are found.
        slab_bytes: of rows in memory at once.
    """
    header = read_header(source)
    rng = np.random.default_rng(5)
    chosen = [
        (fold, np.exp(rng.normal(0, 0.7, (fold.n_sets, fold.n_channels))).astype(np.float32))
        for fold in (plan_folds(header).folds if folds is None else folds)
    ]
    assert chosen, "there is something to fold"
    with Workers(1) as workers:
        quantize(header, target, as_it_is(header), Rtn(workers), scales=tensor_scales(chosen), slab_bytes=slab_bytes)
    return target
