"""What `--kv-type auto` means: f16, or q8_0 where memory is short.

Nothing coarser is ever chosen: q8_0 changes answers little, q4_0 visibly (docs/kv-types.md), so that is for people to
ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from localllm.errors import NotEnoughMemory, RequestError
from localllm.hardware.estimate import ModelShape
from localllm.hardware.options import check_kv_types
from localllm.hardware.sizes import format_bytes
from localllm.hardware.types import KV_AUTO, LoadOptions, LoadPlan

WIDE, NARROW = "f16", "q8_0"

Plan = Callable[[LoadOptions], LoadPlan]
"""Plans a load whose KV types are decided."""


BIASED_KEYS = frozenset({"qwen2", "qwen2moe", "qwen2vl"})
"""Architectures whose keys have large biases: a few channels are a hundred times the others, and share their blocks'
scales. Measured on Qwen2.5-Coder-1.5B: mean KLD 3.6 to 6.2 nats with keys below q8_0 (docs/kv-types.md)."""
_FINE_KEYS = frozenset({"f32", "f16", "bf16", "q8_0"})


def key_notes(shape: ModelShape, kv_type_k: str) -> tuple[str, ...]:
    """Return what to say where keys are kept too coarsely for this model."""
    if shape.architecture not in BIASED_KEYS or kv_type_k in _FINE_KEYS:
        return ()
    return (f"Keys of {shape.architecture} models do not bear {kv_type_k}: expect nonsense. Use --kv-type q8_0,q4_0.",)


def is_auto(options: LoadOptions) -> bool:
    """Whether a KV type is left to the planner."""
    return KV_AUTO in (options.kv_type_k, options.kv_type_v)


def plan_with_best_kv(shape: ModelShape, options: LoadOptions, plan: Plan) -> LoadPlan:
    """Plan with f16, or with q8_0 where that puts more layers on the GPU or makes the context longer.

    Raises:
        RequestError, NotEnoughMemory: as `plan`; the latter if nothing fits with either.
    """
    wide_options, narrow_options = _decided(options, WIDE), _decided(options, NARROW)
    try:
        check_kv_types(narrow_options.kv_type_k, narrow_options.kv_type_v, shape)
    except RequestError as error:
        wide = plan(wide_options)
        return replace(wide, notes=(*wide.notes, f"The KV cache is {WIDE}: {error.message}"))
    try:
        wide = plan(wide_options)
    except NotEnoughMemory:
        narrow = plan(narrow_options)
        return _noted(narrow, f"{format_bytes(narrow.estimate.kv_bytes)}; {WIDE} would not fit the free memory")
    narrow = plan(narrow_options)
    if (narrow.n_gpu_layers, narrow.n_ctx) <= (wide.n_gpu_layers, wide.n_ctx):
        return wide
    return _noted(narrow, _gain(wide, narrow))


def _decided(options: LoadOptions, name: str) -> LoadOptions:
    return replace(
        options,
        kv_type_k=name if options.kv_type_k == KV_AUTO else options.kv_type_k,
        kv_type_v=name if options.kv_type_v == KV_AUTO else options.kv_type_v,
    )


def _gain(wide: LoadPlan, narrow: LoadPlan) -> str:
    if narrow.n_gpu_layers > wide.n_gpu_layers:
        return f"so that {narrow.n_gpu_layers} layers are on the GPU and not {wide.n_gpu_layers}"
    return f"so that n_ctx is {narrow.n_ctx} and not {wide.n_ctx}"


def _noted(plan: LoadPlan, why: str) -> LoadPlan:
    kinds = plan.kv_type_k if plan.kv_type_k == plan.kv_type_v else f"{plan.kv_type_k} (K), {plan.kv_type_v} (V)"
    cost = "Answers change slightly; localllm eval --kv-type measures how much."
    return replace(plan, notes=(*plan.notes, f"The KV cache is {kinds}, {why}. {cost}"))
