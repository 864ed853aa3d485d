"""A whole plan, for people to read: what a model takes, how fast it will be, and what else fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import EngineError, NotEnoughMemory
from localllm.gguf import ModelShape
from localllm.hardware import available_ram_bytes, n_compute_threads
from localllm.hardware.alternatives import Alternative, alternatives
from localllm.hardware.other_files import ScaledPlan, other_files
from localllm.hardware.placement import offload_devices
from localllm.hardware.roofline import Forecast, forecast
from localllm.hardware.types import Device, LoadOptions, LoadPlan
from localllm.runtime.loading import open_planner
from localllm.runtime.speed import MachineCosts, device_costs, kept_costs


@dataclass(frozen=True)
class Outlook:
    """A way to load a model, and how fast it will be."""

    flags: str
    """What to say to have it; "" is what was asked for."""
    plan: LoadPlan
    speed: Forecast | None
    """None where it was not measured."""


@dataclass(frozen=True)
class PlanReport:
    """What `localllm plan` says."""

    shape: ModelShape
    ram_free_bytes: int
    devices: tuple[Device, ...]
    """Those that layers can be offloaded to."""
    chosen: Outlook | None
    refusal: NotEnoughMemory | None
    """Why nothing was chosen."""
    others: tuple[Outlook, ...]
    files: tuple[Outlook, ...] = ()
    """Other quantizations of the model that fit, by their names in `flags`; the best first."""
    is_disturbed: bool = False
    """Whether other programs computed while speeds were measured: they are what was left."""


def plan_report(
    path: Path,
    options: LoadOptions,
    *,
    files: Mapping[str, int] | None = None,
    measures: bool = True,
    recalls: bool = False,
    again: bool = False,
) -> PlanReport:
    """Plan to load a model in the way that was asked for, and in others.

    Args:
        path: a GGUF file, of which only the header is read.
        options: what the planner shall respect.
        files: bytes of the same model's other quantizations, by name. Their plans are this file's, its weights scaled.
        measures: measure this machine's speed, or recall it; without, there are no tokens a second.
        recalls: where nothing is measured, say what an earlier measurement foretells, if there was one.
        again: measure although there is a result of an earlier time.

    Raises:
        ModelError, RequestError: see `open_backend`.
    """
    from localllm.llama import list_devices

    shape, planner = open_planner(path, options)
    chosen, refusal = None, None
    try:
        chosen = planner(options)
    except NotEnoughMemory as error:
        refusal = error
    others = alternatives(shape, options, chosen, planner)
    ways = [*([] if chosen is None else [Alternative("", chosen)]), *others]
    plans = [way.plan for way in ways]
    costs = None
    if measures:
        costs = _costs(shape, options.n_threads, again=again)
    elif recalls and not shape.is_encoder:
        costs = kept_costs(shape, options.n_threads or n_compute_threads())
    speeds = [None if costs is None else forecast(shape, plan, costs.cpu, costs.gpus) for plan in plans]
    scaled = other_files(shape, options, files or {}, chosen, planner)
    outlooks = [Outlook(way.flags, way.plan, speed) for way, speed in zip(ways, speeds, strict=True)]
    return PlanReport(
        shape=shape,
        ram_free_bytes=available_ram_bytes(),
        devices=offload_devices(list_devices()),
        chosen=outlooks[0] if chosen is not None else None,
        refusal=refusal,
        others=tuple(outlooks[1:] if chosen is not None else outlooks),
        files=tuple(
            Outlook(way.flags, way.plan, None if costs is None else scaled_forecast(shape, way, costs))
            for way in scaled
        ),
        is_disturbed=costs is not None and costs.is_disturbed,
    )


def scaled_forecast(shape: ModelShape, way: ScaledPlan, costs: MachineCosts) -> Forecast:
    """Return how fast another quantization will be: what reads weights takes as much longer as they are larger."""
    cpu, *gpus = (cost.scaled(way.factor) for cost in (costs.cpu, *costs.gpus))
    return forecast(shape, way.plan, cpu, gpus)


def _costs(shape: ModelShape, n_threads: int | None, *, again: bool) -> MachineCosts | None:
    """Return what the devices take; None where they cannot be measured, and for encoders, which make no tokens."""
    if shape.is_encoder:
        return None
    try:
        return device_costs(shape, n_threads or n_compute_threads(), again=again)
    except EngineError:
        return None
