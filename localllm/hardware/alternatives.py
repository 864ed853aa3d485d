"""Other ways to load a model than the one that was asked for, and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from localllm.errors import NotEnoughMemory, RequestError
from localllm.hardware.estimate import ModelShape, padded_n_ctx
from localllm.hardware.types import LoadOptions, LoadPlan

N_CTX_STEPS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)
KV_STEPS = ("q8_0", "f16")


@dataclass(frozen=True)
class Alternative:
    """One other way, which fits."""

    flags: str
    """What to say to have it, such as "--n-ctx 8192"."""
    plan: LoadPlan


def alternatives(
    shape: ModelShape,
    options: LoadOptions,
    chosen: LoadPlan | None,
    planner: Callable[[LoadOptions], LoadPlan],
    *,
    n_most: int = 6,
) -> list[Alternative]:
    """Return what else fits, the nearest to what was asked for first: as many layers on the GPU, as long a context.

    Args:
        shape: of the model.
        options: what was asked for.
        chosen: what came of it; None where it does not fit.
        planner: makes a plan of options.
        n_most: at most so many.
    """
    found: dict[tuple[object, ...], Alternative] = {} if chosen is None else {_what(chosen): Alternative("", chosen)}
    for flags, changed in _variations(shape, options, chosen):
        try:
            plan = planner(changed)
        except (NotEnoughMemory, RequestError):
            continue
        found.setdefault(_what(plan), Alternative(flags, plan))
    others = [other for other in found.values() if other.plan is not chosen]
    others.sort(key=lambda other: (-other.plan.n_gpu_layers, _distance(other.plan, options, chosen)))
    return others[:n_most]


def _variations(shape: ModelShape, options: LoadOptions, chosen: LoadPlan | None) -> Iterator[tuple[str, LoadOptions]]:
    kv_now = options.kv_type_k if chosen is None else chosen.kv_type_k
    for name in KV_STEPS:
        if name != kv_now:
            yield f"--kv-type {name}", replace(options, kv_type_k=name, kv_type_v=name)
    if options.draft_model is not None:
        yield "without --draft-model", replace(options, draft_model=None)
    if options.gpu_layers != "auto":
        yield "--gpu-layers auto", replace(options, gpu_layers="auto")
    if chosen is not None and chosen.n_gpu_layers:
        yield "--gpu-layers 0", replace(options, gpu_layers=0)
    most = padded_n_ctx(min(shape.n_ctx_train * options.n_slots or N_CTX_STEPS[-1], N_CTX_STEPS[-1]))
    for n_ctx in sorted({most, *(step for step in N_CTX_STEPS if step < most)}):
        yield f"--n-ctx {n_ctx}", replace(options, n_ctx=n_ctx)
        if kv_now != "q8_0":
            narrow = replace(options, n_ctx=n_ctx, kv_type_k="q8_0", kv_type_v="q8_0")
            yield f"--n-ctx {n_ctx} --kv-type q8_0", narrow


def _what(plan: LoadPlan) -> tuple[object, ...]:
    return (plan.n_ctx, plan.n_gpu_layers, plan.kv_type_k, plan.kv_type_v, plan.n_draft_gpu_layers, plan.estimate)


def _distance(plan: LoadPlan, options: LoadOptions, chosen: LoadPlan | None) -> tuple[float, bool]:
    """Return how far a plan's context is from what was asked for, in doublings; then whether its cache is coarser."""
    wanted = options.n_ctx or (plan.n_ctx if chosen is None else chosen.n_ctx)
    return max(wanted, plan.n_ctx) / min(wanted, plan.n_ctx), plan.kv_type_k != options.kv_type_k
