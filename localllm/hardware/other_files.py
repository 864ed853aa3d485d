"""The same model in other quantizations: which of its files fit this machine best, from their sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from localllm.errors import NotEnoughMemory, RequestError
from localllm.hardware.estimate import ModelShape
from localllm.hardware.types import LoadOptions, LoadPlan


@dataclass(frozen=True)
class ScaledPlan:
    """A plan for another file of the model."""

    flags: str
    """The file's name, as it is asked for: "qwen3-8b:Q3_K_M"."""
    plan: LoadPlan
    factor: float
    """Its bytes to those of the file that was planned."""


class ScalingPlanner(Protocol):
    """Plans to load the model, or one whose weights take `factor` times the bytes."""

    def __call__(self, wanted: LoadOptions, *, factor: float = 1.0) -> LoadPlan: ...


def other_files(
    shape: ModelShape,
    options: LoadOptions,
    files: Mapping[str, int],
    chosen: LoadPlan | None,
    planner: ScalingPlanner,
    *,
    n_most: int = 4,
) -> list[ScaledPlan]:
    """Return the other files that fit.

    Where the file that was asked for has all its layers where they are fastest, those that are larger come first, the
    largest at the end, and one that is smaller; else those that put more layers there, the largest of them first.

    Args:
        shape: of the file that was asked for.
        options: what was asked for.
        files: bytes of the others, by name.
        chosen: the plan of the file itself; None where it does not fit.
        planner: makes a plan of options and a factor.
        n_most: at most so many.
    """
    found = []
    for name, n_bytes in files.items():
        factor = n_bytes / shape.weights_bytes
        try:
            found.append(ScaledPlan(name, planner(options, factor=factor), factor))
        except (NotEnoughMemory, RequestError):
            continue
    larger = sorted((one for one in found if one.factor > 1), key=lambda one: one.factor)
    smaller = sorted((one for one in found if one.factor <= 1), key=lambda one: -one.factor)
    if chosen is None:
        return smaller[:n_most]
    better = [one for one in smaller if one.plan.n_gpu_layers > chosen.n_gpu_layers]
    same = [one for one in larger if one.plan.n_gpu_layers >= chosen.n_gpu_layers]
    return (better or [*same[: n_most - 1], *smaller[:1]])[:n_most]
