"""Scales for the channels of a model that matter, before its weights are rounded (AWQ)."""

from __future__ import annotations

from typing import Protocol

from localllm.gguf import GGUFHeader
from localllm.quantize import Imatrix, Mix, Workers
from localllm.quantize.awq import FoldPlan, InputStatistics, search_folds, tensor_scales
from localllm.quantize.moments import MomentSource
from localllm.quantize.scaling import TensorScale


class FoldingWatcher(Protocol):
    """Hears of the progress; what it raises ends the work."""

    def measuring(self, what: str, n_done: int, n_total: int) -> None:
        """How far the search is."""

    def not_folded(self, reason: str) -> None:
        """Why some of the model, or all, is not scaled."""


def fold(
    header: GGUFHeader,
    mix: Mix,
    plan: FoldPlan,
    imatrix: Imatrix,
    moments: MomentSource | None,
    workers: Workers,
    watcher: FoldingWatcher,
) -> dict[str, TensorScale]:
    """Return what each tensor is to be multiplied by, for the types that the mix has.

    Raises:
        RequestError: the importance matrix, or the moments, are another model's, or damaged.
        ModelError: the source cannot be read.
    """
    if plan.reason is not None:
        watcher.not_folded(plan.reason)
    choices = search_folds(
        header,
        mix,
        plan.folds,
        InputStatistics(imatrix, moments),
        workers,
        lambda n_done, n_total: watcher.measuring("folding", n_done, n_total),
    )
    return tensor_scales((choice.fold, choice.scale) for choice in choices if choice.alpha > 0)
