"""Scaling the channels that matter before rounding, by folds that leave the model's function as it is (AWQ).

plan = plan_folds(header)
choices = search_folds(header, mix, plan.folds, statistics, workers)
scales = tensor_scales((choice.fold, choice.scale) for choice in choices)
"""

from localllm.quantize.awq.folds import Fold, Part, tensor_scales
from localllm.quantize.awq.graphs import FoldPlan, plan_folds
from localllm.quantize.awq.search import FoldChoice, InputStatistics, search_folds

__all__ = [
    "Fold",
    "FoldChoice",
    "FoldPlan",
    "InputStatistics",
    "Part",
    "plan_folds",
    "search_folds",
    "tensor_scales",
]
