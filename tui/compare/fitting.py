"""Whether two models fit in memory at once; for other threads than the interface's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

N_CTX = 4096
"""Of a model that is loaded for a comparison, where the settings do not say."""


def fit_together(refs: Sequence[str], n_ctx: int | None) -> bool:
    """Plan to load these models beside each other.

    Args:
        refs: those that are not loaded yet, all on this machine.
        n_ctx: of each; None is what the planner likes.

    Raises:
        LocalLLMError: one of them is not there, or does not fit even alone.
    """
    from localllm.hardware import available_ram_bytes
    from localllm.hardware.types import LoadOptions
    from localllm.runtime.loading import plan_model
    from localllm.store import resolve

    plans: list[Any] = [plan_model(resolve(ref), LoadOptions(n_ctx=n_ctx, n_slots=2))[1] for ref in refs]
    if len(plans) < 2:
        return True
    if sum(plan.ram_bytes for plan in plans) > available_ram_bytes():
        return False
    for index, device in enumerate(plans[0].devices):
        taken = sum(plan.device_bytes[index] for plan in plans if index < len(plan.device_bytes))
        if taken > device.memory_free_bytes:
            return False
    return True
