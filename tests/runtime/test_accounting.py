from __future__ import annotations

from localllm.hardware import Device, LoadOptions, LoadPlan, plan_load
from localllm.hardware.estimate import output_buffer_bytes
from localllm.hardware.types import n_output_rows
from localllm.llama.buffers import Buffer, parse_buffers
from localllm.runtime.accounting import LEAST_FACTOR, MOST_FACTOR, compute_factor, learn
from tests.hardware.shapes import GIB, SMOLLM2

GPU = Device("CUDA0", "simulated", "gpu", 8 * GIB, 8 * GIB)


def plan() -> LoadPlan:
    factor = compute_factor("llama", ())
    return plan_load(SMOLLM2, "m", (), LoadOptions(), 16 * GIB, n_cores=1, compute_factor=factor)


def buffers(share: float, made: LoadPlan) -> list[Buffer]:
    output = output_buffer_bytes(SMOLLM2, n_output_rows(4))
    computing = int((made.estimate.compute_bytes - output) * share)
    return [
        Buffer("CPU", "KV", made.estimate.kv_bytes),
        Buffer("CPU", "compute", computing),
        Buffer("CPU", "output", output),
    ]


def test_the_next_plan_is_right() -> None:
    first = plan()
    took = buffers(1.25, first)
    learn("llama", first, took)
    assert abs(plan().estimate.compute_bytes / (took[1].n_bytes + took[2].n_bytes) - 1) < 0.001


def test_what_is_learned_again_does_not_add_up() -> None:
    learn("llama", plan(), buffers(1.25, plan()))
    learn("llama", plan(), buffers(1.0, plan()))
    assert abs(compute_factor("llama", ()) - 1.25) < 0.01


def test_corrections_are_bounded() -> None:
    learn("llama", plan(), buffers(10, plan()))
    assert compute_factor("llama", ()) == MOST_FACTOR
    for _ in range(3):
        learn("llama", plan(), buffers(0.1, plan()))
    assert compute_factor("llama", ()) == LEAST_FACTOR


def test_each_architecture_and_backend_has_its_own() -> None:
    learn("llama", plan(), buffers(1.5, plan()))
    assert (compute_factor("qwen2", ()), compute_factor("llama", (GPU,))) == (1.0, 1.0)


def test_the_log_tells_what_was_allocated() -> None:
    lines = [
        "load_tensors:   CPU_Mapped model buffer size =  1059.89 MiB",
        "load_tensors:   CPU_REPACK model buffer size =   596.53 MiB",
        "llama_context:        CPU  output buffer size =     7.69 MiB",
        "sched_reserve:      CUDA0 compute buffer size =    14.59 MiB",
        "llama_kv_cache: size =  180.00 MiB",
    ]
    found = parse_buffers(lines)
    assert [(buffer.device, buffer.use) for buffer in found] == [
        ("CPU_Mapped", "model"),
        ("CPU_REPACK", "model"),
        ("CPU", "output"),
        ("CUDA0", "compute"),
    ]
    assert found[0].n_bytes == round(1059.89 * 1024**2)
    assert [buffer.is_repacked for buffer in found] == [False, True, False, False]
