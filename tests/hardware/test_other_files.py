"""Other quantizations of a model: which of them are worth a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from localllm.errors import NotEnoughMemory
from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.hardware.other_files import ScaledPlan, other_files
from localllm.hardware.roofline import DeviceCosts
from tests.hardware.shapes import GIB, LLAMA_8B

OPTIONS = LoadOptions(n_slots=1, n_ctx=8192)
FILES = {tag: round(LLAMA_8B.weights_bytes * factor) for tag, factor in
         (("Q2_K", 0.65), ("Q3_K_M", 0.8), ("Q5_K_M", 1.2), ("Q6_K", 1.35), ("Q8_0", 1.75), ("F16", 3.3))}  # fmt: skip


def machine(vram: int, ram: int = 64 * GIB) -> tuple[LoadPlan | None, list[ScaledPlan]]:
    devices = (Device("CUDA0", "simulated", "gpu", vram, vram),) if vram else ()

    def planner(wanted: LoadOptions, *, factor: float = 1.0) -> LoadPlan:
        shape = replace(
            LLAMA_8B,
            layer_bytes=[round(n * factor) for n in LLAMA_8B.layer_bytes],
            token_embd_bytes=round(LLAMA_8B.token_embd_bytes * factor),
            output_bytes=round(LLAMA_8B.output_bytes * factor),
        )
        return plan_load(shape, "m.gguf", devices, wanted, ram, n_cores=4)

    try:
        chosen: LoadPlan | None = planner(OPTIONS)
    except NotEnoughMemory:
        chosen = None
    return chosen, other_files(LLAMA_8B, OPTIONS, FILES, chosen, planner)


def names(found: list[ScaledPlan]) -> list[str]:
    return [one.flags for one in found]


def test_where_there_is_room_larger_ones_are_named_and_one_smaller() -> None:
    chosen, found = machine(24 * GIB)
    assert chosen is not None and chosen.n_gpu_layers == 33
    assert names(found) == ["Q5_K_M", "Q6_K", "Q8_0", "Q3_K_M"]
    assert all(one.plan.n_gpu_layers == 33 for one in found)


def test_where_the_gpu_is_too_small_those_that_put_more_on_it_are_named() -> None:
    chosen, found = machine(4 * GIB)
    assert chosen is not None
    assert names(found) == ["Q3_K_M", "Q2_K"]
    assert chosen.n_gpu_layers < found[0].plan.n_gpu_layers < found[1].plan.n_gpu_layers


def test_where_it_does_not_fit_at_all_the_largest_that_does_is_named_first() -> None:
    chosen, found = machine(0, ram=5 * GIB)
    assert chosen is None
    assert names(found) in (["Q3_K_M", "Q2_K"], ["Q2_K"])
    assert all(one.plan.ram_bytes < 5 * GIB for one in found)


def test_nothing_is_said_of_no_files() -> None:
    files: Mapping[str, int] = {}
    assert other_files(LLAMA_8B, OPTIONS, files, None, lambda wanted, *, factor=1.0: plan_load(
        LLAMA_8B, "m.gguf", (), wanted, 64 * GIB, n_cores=4)) == []  # fmt: skip


def test_reading_weights_takes_as_much_longer_as_they_are_larger() -> None:
    costs = DeviceCosts(0.02, 0.004, 0.01, 0.001, 1e10)
    scaled = costs.scaled(1.5)
    assert (scaled.decode_layers_s, scaled.decode_output_s) == (0.03, 0.006)
    assert (scaled.prefill_layers_s, scaled.between_s, scaled.kv_bytes_s) == (0.01, 0.001, 1e10)
