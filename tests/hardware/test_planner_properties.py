from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from localllm.errors import NotEnoughMemory
from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.hardware.estimate import padded_n_ctx
from localllm.hardware.kv_types import KV_TYPES
from localllm.hardware.placement import Footprint, Machine, Placement
from localllm.hardware.types import n_branch_ids, n_output_rows, n_sequence_ids
from tests.hardware.shapes import GIB, LLAMA_8B, MIB, QWEN25_1_5B, SMOLLM2, Shape

free_bytes = st.integers(64, 64 * 1024).map(lambda n: n * MIB)

shapes = st.one_of(
    st.sampled_from([LLAMA_8B, QWEN25_1_5B, SMOLLM2]),
    st.builds(
        lambda n_layer, n_head_kv, layer_mib, n_vocab, tied: Shape(
            n_layer=n_layer,
            n_head_kv=[n_head_kv if layer % 3 else 0 for layer in range(n_layer)],
            layer_bytes=[layer_mib * MIB + layer for layer in range(n_layer)],
            n_vocab=n_vocab,
            output_bytes=0 if tied else 100 * MIB,
        ),
        st.integers(1, 40),
        st.integers(0, 8),
        st.integers(1, 200),
        st.integers(2, 260_000),
        st.booleans(),
    ),
)

devices = st.builds(
    lambda kind, total, share: Device("CUDA0", "a card", kind, total, int(total * share)),
    st.sampled_from(["gpu", "igpu"]),
    st.integers(0, 48 * 1024).map(lambda n: n * MIB),
    st.floats(0, 1),
)

options = st.builds(
    LoadOptions,
    n_ctx=st.none() | st.integers(1, 40_000),
    gpu_layers=st.just("auto"),
    n_slots=st.integers(1, 16),
    kv_type_k=st.sampled_from(sorted(KV_TYPES)),
    kv_type_v=st.sampled_from(sorted(KV_TYPES)),
    n_batch=st.sampled_from([16, 512, 2048]),
    n_ubatch=st.sampled_from([16, 512, 2048]),
)


def try_plan(shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int) -> LoadPlan | None:
    try:
        return plan_load(shape, "m.gguf", gpus, wanted, ram, n_cores=1)
    except NotEnoughMemory:
        return None


def footprint_of(shape: Shape, gpus: list[Device], plan: LoadPlan, ram: int) -> Footprint:
    placement = Placement(
        shape,
        Machine(tuple(gpus), ram),
        KV_TYPES[plan.kv_type_k],
        KV_TYPES[plan.kv_type_v],
        plan.n_ubatch,
        n_sequence_ids(plan.n_slots) + n_branch_ids(plan.n_slots),
        n_output_rows(plan.n_slots),
    )
    return placement.footprint(plan.n_gpu_layers, plan.n_ctx)


@given(shapes, st.lists(devices.filter(lambda d: d.kind == "gpu"), max_size=3), options, free_bytes)
@settings(max_examples=150, deadline=None)
def test_a_plan_is_never_above_the_free_memory(shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int) -> None:
    plan = try_plan(shape, gpus, wanted, ram)
    if plan is None:
        return
    footprint = footprint_of(shape, gpus, plan, ram)
    assert footprint.ram_bytes <= ram
    for need, device in zip(footprint.device_bytes, gpus, strict=True):
        assert need <= (device.memory_free_bytes if device.memory_total_bytes else ram)
    assert plan.estimate == footprint.estimate


@given(
    shapes,
    st.lists(devices, max_size=1),
    options,
    free_bytes,
    st.integers(0, 8 * GIB),
    st.integers(0, 8 * GIB),
)
@settings(max_examples=200, deadline=None)
def test_more_free_memory_never_gives_less(
    shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int, more_ram: int, more_gpu: int
) -> None:
    before = try_plan(shape, gpus, wanted, ram)
    if before is None:
        return
    # The same card with less in use: its total stays, unless the room would not fit in it.
    roomier = [
        replace(device, memory_free_bytes=min(device.memory_free_bytes + more_gpu, device.memory_total_bytes))
        for device in gpus
    ]
    after = try_plan(shape, roomier, wanted, ram + more_ram)
    assert after is not None
    assert after.n_gpu_layers >= before.n_gpu_layers
    assert after.n_ctx >= before.n_ctx


@given(shapes, st.lists(devices, max_size=1), options, free_bytes, st.none() | st.integers(0, 41))
@settings(max_examples=150, deadline=None)
def test_explicit_values_are_obeyed_or_refused(
    shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int, n_gpu_layers: int | None
) -> None:
    if n_gpu_layers is not None and gpus:
        wanted = replace(wanted, gpu_layers=n_gpu_layers)
    plan = try_plan(shape, gpus, wanted, ram)
    if plan is None:
        return
    if wanted.n_ctx is not None:
        assert plan.n_ctx == padded_n_ctx(wanted.n_ctx)
    if wanted.gpu_layers != "auto":
        assert plan.n_gpu_layers == min(int(wanted.gpu_layers), shape.n_layer + 1)
    assert (plan.kv_type_k, plan.kv_type_v, plan.n_slots) == (
        wanted.kv_type_k,
        wanted.kv_type_v,
        wanted.n_slots,
    )
    assert plan.n_ubatch <= plan.n_batch <= plan.n_ctx


@given(shapes, st.lists(devices, max_size=1), options, free_bytes)
@settings(max_examples=100, deadline=None)
def test_auto_kv_is_as_good_as_the_better_of_both(
    shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int
) -> None:
    auto, *named = (
        try_plan(shape, gpus, replace(wanted, kv_type_k=kind, kv_type_v=kind), ram) for kind in ("auto", "f16", "q8_0")
    )
    reached = [(plan.n_gpu_layers, plan.n_ctx) for plan in named if plan]
    assert (auto is None) == (not reached)
    if auto is not None:
        assert (auto.n_gpu_layers, auto.n_ctx) == max(reached)


@given(shapes, st.lists(devices, max_size=1), options, free_bytes)
@settings(max_examples=100, deadline=None)
def test_the_context_a_refusal_offers_fits(shape: Shape, gpus: list[Device], wanted: LoadOptions, ram: int) -> None:
    try:
        plan_load(shape, "m.gguf", gpus, wanted, ram, n_cores=1)
    except NotEnoughMemory as error:
        hint = error.hint or ""
    else:
        return
    if "--n-ctx" in hint:
        offered = int(hint.split("--n-ctx ")[1].rstrip("."))
        assert try_plan(shape, gpus, replace(wanted, n_ctx=offered), ram) is not None
