from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.hardware import Device, LoadOptions, plan_load
from localllm.hardware.roofline import HOST_LAYER_S, DeviceCosts, forecast
from tests.hardware.shapes import GIB, LLAMA_8B

CPU = DeviceCosts(0.2, 0.02, 0.05, 0.001, 20e9)
GPU = DeviceCosts(0.005, 0.0005, 0.0001, 0.0001, 500e9)
OPTIONS = LoadOptions(n_ctx=8192, n_slots=1)


def test_the_cpu_alone_takes_its_time_for_all() -> None:
    plan = plan_load(LLAMA_8B, "m", (), OPTIONS, 64 * GIB, n_cores=4)
    speed = forecast(LLAMA_8B, plan, CPU)
    assert 1 / speed.decode_tok_s == pytest.approx(0.2 + 0.02 + 0.001 + 32 * HOST_LAYER_S)
    assert speed.prefill_tok_s == pytest.approx(1 / 0.051)
    kv_bytes = 2 * 8 * 128 * 2 * 32 * 8192
    assert 1 / speed.decode_full_tok_s - 1 / speed.decode_tok_s == pytest.approx(kv_bytes / 20e9)


def test_more_layers_on_a_gpu_are_faster() -> None:
    device = Device("CUDA0", "simulated", "gpu", 24 * GIB, 24 * GIB)
    speeds = []
    for n_layers in (0, 11, 22, 33):
        plan = plan_load(LLAMA_8B, "m", (device,), replace(OPTIONS, gpu_layers=n_layers), 64 * GIB, n_cores=4)
        speeds.append(forecast(LLAMA_8B, plan, CPU, [GPU]).decode_tok_s)
    assert speeds == sorted(speeds) and speeds[-1] > 20 * speeds[0]


def test_coarser_keys_and_values_are_read_faster() -> None:
    fine, coarse = (
        plan_load(LLAMA_8B, "m", (), replace(OPTIONS, kv_type_k=kind, kv_type_v=kind), 64 * GIB, n_cores=4)
        for kind in ("f16", "q8_0")
    )
    assert forecast(LLAMA_8B, coarse, CPU).decode_full_tok_s > forecast(LLAMA_8B, fine, CPU).decode_full_tok_s
