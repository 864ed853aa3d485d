"""Plans for machines that are not here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.errors import NotEnoughMemory
from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.hardware.alternatives import alternatives
from localllm.hardware.types import MAX_KEPT_BYTES
from tests.hardware.shapes import GIB, LLAMA_8B, MIB, Shape

OPTIONS = LoadOptions(n_slots=1)


def gpu(n_bytes: int, name: str = "CUDA0", kind: str = "gpu") -> Device:
    return Device(name, "simulated", kind, n_bytes, n_bytes)  # type: ignore[arg-type]


def plan(*devices: Device, ram: int = 64 * GIB, options: LoadOptions = OPTIONS, shape: Shape = LLAMA_8B) -> LoadPlan:
    return plan_load(shape, "m.gguf", devices, options, ram, n_cores=4)


def test_all_of_it_goes_to_a_gpu_with_room() -> None:
    made = plan(gpu(24 * GIB))
    assert (made.n_gpu_layers, made.device_layers) == (33, (33,))
    assert made.device_bytes[0] > LLAMA_8B.weights_bytes - LLAMA_8B.token_embd_bytes
    assert made.ram_bytes < 2 * GIB


def test_two_unequal_gpus_get_layers_by_their_free_memory() -> None:
    made = plan(gpu(16 * GIB), gpu(8 * GIB, "CUDA1"))
    assert sum(made.device_layers) == made.n_gpu_layers == 33
    assert made.device_layers == (22, 11)
    assert all(
        0 < need < device.memory_free_bytes for need, device in zip(made.device_bytes, made.devices, strict=True)
    )


def test_a_gpu_too_small_for_one_layer_is_left_alone() -> None:
    made = plan(gpu(300 * MIB))
    assert (made.n_gpu_layers, made.device_layers, made.device_bytes, made.devices) == (0, (), (), ())
    assert any("0 of 33 layers" in note for note in made.notes)


def test_unified_memory_counts_once_and_both_ways() -> None:
    made = plan(gpu(16 * GIB, "MTL0"), ram=16 * GIB)
    assert made.n_gpu_layers == 33
    assert made.ram_bytes > LLAMA_8B.weights_bytes
    with pytest.raises(NotEnoughMemory):
        plan(gpu(16 * GIB, "MTL0"), ram=4 * GIB)


def test_layers_and_context_may_be_limited_from_outside() -> None:
    made = plan(gpu(24 * GIB), options=replace(OPTIONS, max_gpu_layers=10, max_n_ctx=4096))
    assert (made.n_gpu_layers, made.n_ctx) == (10, 4096)


def test_a_limit_of_memory_makes_the_context_shorter_and_then_refuses() -> None:
    free, needed = plan(), LLAMA_8B.weights_bytes
    made = plan(options=replace(OPTIONS, max_memory_bytes=needed + 600 * MIB))
    assert made.n_ctx < free.n_ctx and made.estimate.total_bytes + made.kept_bytes <= needed + 600 * MIB
    with pytest.raises(NotEnoughMemory, match="--max-memory"):
        plan(options=replace(OPTIONS, max_memory_bytes=needed))


def test_kept_prompts_get_what_is_left() -> None:
    assert plan().kept_bytes == MAX_KEPT_BYTES
    tight = plan(ram=LLAMA_8B.weights_bytes + 3 * GIB)
    assert 0 <= tight.kept_bytes < MAX_KEPT_BYTES
    assert tight.ram_bytes + tight.kept_bytes < LLAMA_8B.weights_bytes + 3 * GIB


def test_a_learned_factor_makes_compute_buffers_larger() -> None:
    once = plan_load(LLAMA_8B, "m.gguf", (), OPTIONS, 64 * GIB, n_cores=4)
    more = plan_load(LLAMA_8B, "m.gguf", (), OPTIONS, 64 * GIB, n_cores=4, compute_factor=1.5)
    assert more.estimate.compute_bytes > 1.3 * once.estimate.compute_bytes
    assert more.estimate.weights_bytes == once.estimate.weights_bytes


def test_alternatives_fit_and_the_nearest_comes_first() -> None:
    options = replace(OPTIONS, n_ctx=65536)
    ram = LLAMA_8B.weights_bytes + 6 * GIB

    def planner(wanted: LoadOptions) -> LoadPlan:
        return plan(options=wanted, ram=ram)

    with pytest.raises(NotEnoughMemory):
        planner(options)
    found = alternatives(LLAMA_8B, options, None, planner)
    assert found[0].flags == "--kv-type q8_0" and found[0].plan.n_ctx == 65536
    assert "--n-ctx 32768" in [other.flags for other in found]
    assert all(other.plan.ram_bytes <= ram for other in found)


def test_the_chosen_plan_is_no_alternative() -> None:
    chosen = plan()
    found = alternatives(LLAMA_8B, OPTIONS, chosen, lambda wanted: plan(options=wanted))
    assert found and all(other.plan.estimate != chosen.estimate for other in found)
