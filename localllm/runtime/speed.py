"""How fast this machine computes with a model's matrices: measured once, by ggml's own kernels, and kept.

Nothing of the model's file is read but its header, so it also works before a download.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from localllm.gguf import ModelShape
from localllm.gguf.weights import Matrix
from localllm.hardware.cpu import n_busy_cores
from localllm.hardware.placement import offload_devices
from localllm.hardware.repack import is_repacked, repacked_types
from localllm.hardware.roofline import DeviceCosts
from localllm.kept_facts import KeptFacts
from localllm.paths import cache_dir

if TYPE_CHECKING:
    from localllm.llama.kernels import Bench, Product

SAMPLE_BYTES = 64 << 20
"""Weights that are measured: more than caches hold."""
N_PREFILL = 128
"""Tokens of a prompt that are measured together."""
MAX_BUSY_CORES = 0.5
"""Of other programs, beside which a measurement still holds."""
_KV_ROWS = 1024
_KV_HEADS = 64


@dataclass(frozen=True)
class MachineCosts:
    """What a machine takes for a model."""

    cpu: DeviceCosts
    gpus: tuple[DeviceCosts, ...]
    """Those of the devices that layers can be offloaded to."""
    is_disturbed: bool
    """Whether other programs computed while this was measured."""


def device_costs(shape: ModelShape, n_threads: int, *, again: bool = False) -> MachineCosts:
    """Return what the CPU, and each device that layers can be offloaded to, takes for a model.

    What is measured beside busy programs is not kept.

    Args:
        shape: of the model.
        n_threads: of the CPU.
        again: measure although there is a result of an earlier time.

    Raises:
        EngineError: a device cannot be used.
    """
    from localllm.llama import cpu_features, list_devices

    devices = list_devices()
    gpus = offload_devices(devices)
    repacked = repacked_types(cpu_features(), gpus)
    cpu = next(device.name for device in devices if device.kind == "cpu")
    places = [(cpu, n_threads, repacked), *((device.name, 0, frozenset[str]()) for device in gpus)]
    found = [_costs(shape, *place, again=again) for place in places]
    costs = [one for one, _ in found]
    return MachineCosts(costs[0], tuple(costs[1:]), any(is_disturbed for _, is_disturbed in found))


def kept_costs(shape: ModelShape, n_threads: int) -> MachineCosts | None:
    """Return what `device_costs` measured at an earlier time; None where it has not."""
    from localllm.llama import list_devices

    devices = list_devices()
    cpu = next(device.name for device in devices if device.kind == "cpu")
    places = [(cpu, n_threads), *((device.name, 0) for device in offload_devices(devices))]
    facts = KeptFacts(cache_dir() / "speed.json")
    known = [facts.get(_key(shape, *place)) for place in places]
    costs = [DeviceCosts(**one) for one in known if one is not None]
    return MachineCosts(costs[0], tuple(costs[1:]), is_disturbed=False) if len(costs) == len(places) else None


def machine_identity() -> str:
    """Return what a measurement holds for: this computer, and this build of llama.cpp."""
    from localllm.llama import build_info, cpu_features, list_devices

    parts = (platform.node(), platform.machine(), build_info(), *sorted(cpu_features()))
    return " | ".join([*parts, *(device.description for device in list_devices())])


def _costs(
    shape: ModelShape, device: str, n_threads: int, repacked: frozenset[str], *, again: bool
) -> tuple[DeviceCosts, bool]:
    """Return a device's costs, and whether others computed while they were measured."""
    key = _key(shape, device, n_threads)
    facts = KeptFacts(cache_dir() / "speed.json")
    known = facts.get(key)
    if known is not None and not again:
        return DeviceCosts(**known), False
    is_disturbed = n_busy_cores() > MAX_BUSY_CORES
    costs = _measure(shape, device, n_threads, repacked)
    if not is_disturbed:
        facts.put(key, asdict(costs))
    return costs, is_disturbed


def _key(shape: ModelShape, device: str, n_threads: int) -> str:
    parts = [machine_identity(), device, n_threads, shape.n_embd, shape.n_expert_used, shape.matrices]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _measure(shape: ModelShape, device: str, n_threads: int, repacked: frozenset[str]) -> DeviceCosts:
    from localllm.llama.kernels import Bench

    *layers, output = shape.matrices
    with Bench(device, n_threads) as bench:
        sample = [matrix for layer in _spread(layers) for matrix in layer]
        share = _active_bytes(sample, shape.n_expert_used) / max(
            _active_bytes([matrix for layer in layers for matrix in layer], shape.n_expert_used), 1
        )
        one = _products(layers[len(layers) // 2], shape.n_expert_used, repacked)
        between = bench.between_s(
            shape.n_embd, max(shape.n_ff_active, 1), shape.head_dim_k or 64, shape.n_head_max or 1
        )
        return DeviceCosts(
            decode_layers_s=bench.products_s(_products(sample, shape.n_expert_used, repacked), 1) / share,
            decode_output_s=_output_s(bench, output, repacked),
            prefill_layers_s=bench.products_s(one, N_PREFILL) / N_PREFILL * len(layers),
            between_s=between * len(layers),
            kv_bytes_s=_kv_bytes_s(bench, shape),
        )


def _spread(layers: Sequence[Sequence[Matrix]]) -> list[Sequence[Matrix]]:
    """Return as many layers as the sample has room for, from all over the model: types differ from layer to layer."""
    layer_bytes = max(sum(matrix.n_bytes for layer in layers for matrix in layer) // len(layers), 1)
    n = max(1, min(len(layers), SAMPLE_BYTES // layer_bytes))
    return [layers[int((index + 0.5) * len(layers) / n)] for index in range(n)]


def _n_used(matrix: Matrix, n_expert_used: int) -> int:
    return min(n_expert_used, matrix.n_experts) if matrix.n_experts > 1 else 1


def _active_bytes(matrices: Sequence[Matrix], n_expert_used: int) -> float:
    return sum(matrix.n_bytes / matrix.n_experts * _n_used(matrix, n_expert_used) for matrix in matrices)


def _products(matrices: Sequence[Matrix], n_expert_used: int, repacked: frozenset[str]) -> list[Product]:
    from localllm.llama.kernels import Product

    return [
        Product(matrix.type, matrix.n_in, matrix.n_out, is_repacked(matrix, repacked))
        for matrix in matrices
        for _ in range(_n_used(matrix, n_expert_used))
    ]


def _output_s(bench: Bench, output: Sequence[Matrix], repacked: frozenset[str]) -> float:
    """Return the seconds of the output layer, of which some rows are measured."""
    if not output:
        return 0.0
    matrix = output[0]
    n_rows = max(8, min(matrix.n_out, matrix.n_out * SAMPLE_BYTES // matrix.n_bytes) // 8 * 8)
    part = matrix._replace(n_out=n_rows)
    return bench.products_s(_products([part], 0, repacked), 1) * matrix.n_out / n_rows


def _kv_bytes_s(bench: Bench, shape: ModelShape) -> float:
    """Return the bytes that products with rows of a head's width read in a second, as attention reads keys."""
    from localllm.llama.kernels import Product

    width = shape.head_dim_k or 64
    heads = [Product("f16", width, _KV_ROWS, is_repacked=False)] * _KV_HEADS
    return _KV_HEADS * _KV_ROWS * width * 2 / bench.products_s(heads, 1)
