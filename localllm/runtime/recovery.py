"""When llama.cpp does not get the memory that a plan found free: the next smaller plan.

Other programs take memory meanwhile, and drivers have needs that nobody foretells. What the caller asked for stays;
only what was left open becomes smaller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from localllm.errors import AllocationFailed
from localllm.hardware.estimate import padded_n_ctx
from localllm.hardware.planner import N_CTX_FLOOR
from localllm.hardware.types import LoadOptions, LoadPlan

Opened = TypeVar("Opened")


def open_what_fits(
    options: LoadOptions, planner: Callable[[LoadOptions], LoadPlan], open_plan: Callable[[LoadPlan], Opened]
) -> Opened:
    """Open a plan, or a smaller one where llama.cpp does not get the memory; its notes then say so.

    Args:
        options: what the caller asked for.
        planner: makes a plan of options.
        open_plan: loads it, and frees all that it took before it fails.

    Raises:
        AllocationFailed: nothing is left that could be smaller.
        LocalLLMError: whatever the planner, or `open_plan`, else raises.
    """
    notes: tuple[str, ...] = ()
    while True:
        plan = planner(options)
        try:
            return open_plan(replace(plan, notes=(*notes, *plan.notes)))
        except AllocationFailed:
            smaller = smaller_options(options, plan)
            if smaller is None:
                raise
            options, change = smaller
            notes = (*notes, f"llama.cpp did not get the memory that was planned, so {change}.")


def smaller_options(options: LoadOptions, plan: LoadPlan) -> tuple[LoadOptions, str] | None:
    """Return options that need less than a plan, and what they change; None where all was asked for.

    First fewer layers are on the GPU, then the context is smaller.
    """
    n_layers, n_ctx = plan.n_gpu_layers, plan.n_ctx
    if options.gpu_layers == "auto" and n_layers:
        fewer = n_layers - max(1, n_layers // 4)
        return replace(options, max_gpu_layers=fewer), f"{fewer} layers are on the GPU, not {n_layers}"
    if options.n_ctx is None and n_ctx > N_CTX_FLOOR:
        less = max(N_CTX_FLOOR, padded_n_ctx(n_ctx // 2))
        return replace(options, max_n_ctx=less), f"n_ctx is {less}, not {n_ctx}"
    return None
