"""What a model was foretold to take, and what it took: kept, so that the next prediction is better.

Weights and KV are exact. Compute buffers depend on how llama.cpp lays out a graph, so what is learned is their factor,
for each architecture and backend.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from localllm.hardware.placement import offload_devices
from localllm.hardware.types import Device, LoadPlan
from localllm.kept_facts import KeptFacts
from localllm.paths import cache_dir

if TYPE_CHECKING:
    from localllm.llama.buffers import Buffer

LEAST_FACTOR, MOST_FACTOR = 0.8, 2.0
"""A correction beyond these would say more of a mistake than of a model."""


def compute_factor(architecture: str, devices: Sequence[Device]) -> float:
    """Return what compute buffers took of models of this kind, to what was foretold; 1 where none was loaded yet."""
    known = _facts().get(_key(architecture, devices))
    factor = (known or {}).get("factor")
    return _bounded(factor) if isinstance(factor, int | float) else 1.0


def learn(architecture: str, plan: LoadPlan, buffers: Iterable[Buffer]) -> None:
    """Keep what a load took beside what was foretold.

    Args:
        architecture: of the model.
        plan: of a model without a draft model, whose buffers would be among them.
        buffers: all that llama.cpp allocated.
    """
    from localllm.llama import list_devices

    devices, took = list_devices(), list(buffers)
    computing = sum(buffer.n_bytes for buffer in took if buffer.use == "compute")
    # The rows of logits are exact.
    predicted = plan.estimate.compute_bytes - sum(buffer.n_bytes for buffer in took if buffer.use == "output")
    if not computing or predicted <= 0:
        return
    # The prediction had the factor of before in it.
    factor = compute_factor(architecture, devices) * computing / predicted
    fact = {
        "factor": _bounded(factor),
        "predicted_bytes": plan.estimate.allocated_bytes,
        "allocated_bytes": sum(buffer.n_bytes for buffer in took),
    }
    known = _facts().get(_key(architecture, devices)) or {}
    if known.get("factor") is None or abs(known["factor"] - fact["factor"]) > _CHANGE:
        _facts().put(_key(architecture, devices), fact)


_CHANGE = 0.02
"""Factors that differ by less are not worth a file's writing."""


def _facts() -> KeptFacts:
    return KeptFacts(cache_dir() / "memory.json")


def _key(architecture: str, devices: Sequence[Device]) -> str:
    names = {re.sub(r"\d+$", "", device.name) for device in offload_devices(devices)} or {"CPU"}
    return " ".join([architecture, *sorted(names)])


def _bounded(factor: float) -> float:
    return min(max(factor, LEAST_FACTOR), MOST_FACTOR)
