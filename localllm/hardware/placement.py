"""Which bytes land in which memory for a given number of offloaded layers and context.

This module measures one candidate plan; it does not know which candidate is best.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from localllm.hardware.estimate import (
    ModelShape,
    compute_buffer_bytes,
    kv_layer_bytes,
    output_buffer_bytes,
    uses_flash_attention,
)
from localllm.hardware.kv_types import KVType
from localllm.hardware.repack import is_repacked
from localllm.hardware.sizes import GIB, MIB
from localllm.hardware.types import MAX_KEPT_BYTES, Device, MemoryEstimate


@dataclass(frozen=True)
class Footprint:
    """Bytes that one candidate takes."""

    ram_bytes: int
    """All that lies in the computer's own memory, the share of integrated GPUs included."""
    device_bytes: tuple[int, ...]
    """What lies on each offload device, in their order."""
    estimate: MemoryEstimate

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(
            self.ram_bytes + other.ram_bytes,
            tuple(a + b for a, b in zip(self.device_bytes, other.device_bytes, strict=True)),
            self.estimate + other.estimate,
        )


@dataclass(frozen=True)
class Machine:
    """The memory a plan may use.

    Args:
        devices: those that layers can be offloaded to, in llama.cpp's order.
        ram_free_bytes: free RAM, reclaimable caches included (mapped weights live in the page cache).
        max_bytes: what a model may take in all, wherever it lies; None: what is free.
    """

    devices: tuple[Device, ...]
    ram_free_bytes: int
    max_bytes: int | None = None

    @property
    def ram_margin_bytes(self) -> int:
        """A tenth of what is free, 1 GiB at most: for this process, and for what starts beside it."""
        return min(self.ram_free_bytes // 10, GIB)

    @property
    def device_margins_bytes(self) -> tuple[int, ...]:
        """A twentieth of each device, 256 MiB at least: for the driver's context, its kernels, the screen."""
        return tuple(max(device.memory_total_bytes // 20, 256 * MIB) for device in self.devices)

    @property
    def device_free_bytes(self) -> tuple[int, ...]:
        """A device that reports no memory at all uses the host's, as llama.cpp takes it."""
        return tuple(
            device.memory_free_bytes if device.memory_total_bytes else self.ram_free_bytes for device in self.devices
        )

    def fits_devices(self, footprint: Footprint) -> bool:
        return all(
            not need or need + margin <= free
            for need, margin, free in zip(
                footprint.device_bytes, self.device_margins_bytes, self.device_free_bytes, strict=True
            )
        )

    def fits_ram(self, footprint: Footprint) -> bool:
        return footprint.ram_bytes + self.ram_margin_bytes <= self.ram_free_bytes

    def fits(self, footprint: Footprint) -> bool:
        return self.fits_devices(footprint) and self.fits_ram(footprint) and self.fits_limit(footprint)

    def fits_limit(self, footprint: Footprint) -> bool:
        return self.max_bytes is None or footprint.estimate.total_bytes <= self.max_bytes

    def kept_bytes(self, footprint: Footprint) -> int:
        """Return what prompts that left the cache may take: half of the RAM left, a quarter of the limit's rest."""
        left = (self.ram_free_bytes - self.ram_margin_bytes - footprint.ram_bytes) // 2
        if self.max_bytes is not None:
            left = min(left, (self.max_bytes - footprint.estimate.total_bytes) // 4)
        return max(0, min(left, MAX_KEPT_BYTES))


def offload_devices(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices llama.cpp offloads to: every GPU, or the integrated ones where there is none."""
    gpus = tuple(device for device in devices if device.kind == "gpu")
    return gpus or tuple(device for device in devices if device.kind == "igpu")


def shares_ram(device: Device) -> bool:
    """Return whether a device uses the computer's RAM: integrated GPUs do, and Apple's, which say "gpu"."""
    return device.kind == "igpu" or not device.memory_total_bytes or device.name.startswith(("MTL", "Metal"))


@dataclass(frozen=True)
class Placement:
    """Measures candidates for one model on one machine."""

    shape: ModelShape
    machine: Machine
    kv_type_k: KVType
    kv_type_v: KVType
    n_ubatch: int
    n_seq_max: int
    """Sequence ids."""
    n_output_rows: int
    """Rows of logits."""
    draft: Placement | None = None
    """Of the draft model that is loaded beside it."""
    compute_factor: float = 1.0
    """What compute buffers took of models of this kind before, to what was foretold."""
    repacked: frozenset[str] = frozenset()
    """Tensor types that the CPU backend keeps a copy of in another order."""

    @property
    def n_gpu_layers_max(self) -> int:
        """All repeating layers and the output, which llama.cpp counts as one more; 0 without a device."""
        return self.shape.n_layer + 1 if self.machine.devices else 0

    @cached_property
    def _splits(self) -> list[float]:
        """Cumulative shares of the devices, by free memory: llama.cpp's default split."""
        free = self.machine.device_free_bytes
        total = sum(free)
        return [part / total for part in accumulate(free)] if total else [1.0] * len(free)

    def _device_of(self, n_gpu_layers: int) -> list[int | None]:
        """Return the device index of each layer and, last, of the output; None is the CPU.

        Source: llama-model.cpp, `get_layer_buft_list`: the last `n_gpu_layers` of n_layer + 1 are offloaded.
        """
        first = self.shape.n_layer + 1 - n_gpu_layers
        last = len(self.machine.devices) - 1
        return [
            min(bisect_right(self._splits, (index - first) / n_gpu_layers), last) if index >= first else None
            for index in range(self.shape.n_layer + 1)
        ]

    @cached_property
    def _output_bytes(self) -> int:
        """A model without an output matrix gets a copy of the token embedding on the output's device."""
        return self.shape.output_bytes or self.shape.token_embd_bytes

    @cached_property
    def _input_bytes(self) -> int:
        """What always stays in RAM: the token embedding, and what belongs to no layer."""
        shape = self.shape
        return max(shape.weights_bytes - sum(shape.layer_bytes) - shape.output_bytes, shape.token_embd_bytes)

    def n_draft_gpu_layers(self, n_gpu_layers: int) -> int:
        """Return how many of the draft model's layers are offloaded beside so many of the model: all, or none."""
        if self.draft is None or n_gpu_layers < self.n_gpu_layers_max:
            return 0
        return self.draft.n_gpu_layers_max

    def device_layers(self, n_gpu_layers: int) -> tuple[int, ...]:
        """Return the layers on each device, the output counted as one."""
        where = self._device_of(n_gpu_layers)
        return tuple(where.count(index) for index in range(len(self.machine.devices)))

    def footprint(self, n_gpu_layers: int, n_ctx: int) -> Footprint:
        """Return what `n_gpu_layers` offloaded layers and `n_ctx` cells take, and where, the draft model included."""
        own = self._own_footprint(n_gpu_layers, n_ctx)
        return own if self.draft is None else own + self.draft.footprint(self.n_draft_gpu_layers(n_gpu_layers), n_ctx)

    def _own_footprint(self, n_gpu_layers: int, n_ctx: int) -> Footprint:
        shape, devices = self.shape, self.machine.devices
        caches = kv_layer_bytes(shape, self.kv_type_k, self.kv_type_v, n_ctx)
        kv = [cache + self.n_seq_max * state for cache, state in zip(caches, shape.state_bytes, strict=True)]
        n_outputs = max(n_ctx, self.n_seq_max) if shape.is_encoder else self.n_output_rows
        compute = compute_buffer_bytes(
            shape,
            n_ctx,
            n_ctx if shape.is_encoder else self.n_ubatch,
            n_seq_max=self.n_seq_max,
            n_outputs=n_outputs if shape.keeps_kv else self.n_seq_max,
            flash_attention=uses_flash_attention(shape),
        )
        compute = round(compute * self.compute_factor)
        output_rows = output_buffer_bytes(shape, n_outputs)
        *layer_devices, output_device = self._device_of(n_gpu_layers)
        on_device = [0] * len(devices)
        ram = self._input_bytes + output_rows + compute
        for where, weights_bytes, kv_bytes in zip(layer_devices, shape.layer_bytes, kv, strict=True):
            if where is None:
                ram += weights_bytes + kv_bytes
            else:
                on_device[where] += weights_bytes + kv_bytes
        if output_device is None:
            ram += shape.output_bytes
        else:
            on_device[output_device] += self._output_bytes
        on_device = [n_bytes + compute if n_bytes else 0 for n_bytes in on_device]
        n_computing = 1 + sum(1 for n_bytes in on_device if n_bytes)
        copied = self._output_bytes - shape.output_bytes if output_device is not None else 0
        return Footprint(
            ram_bytes=ram + self._shared_bytes(on_device, compute, copied),
            device_bytes=tuple(on_device),
            estimate=MemoryEstimate(
                weights_bytes=self._input_bytes + sum(shape.layer_bytes) + shape.output_bytes + copied,
                kv_bytes=sum(kv),
                compute_bytes=n_computing * compute + output_rows,
                repacked_bytes=self._repacked_bytes([*layer_devices, output_device]),
            ),
        )

    def _repacked_bytes(self, devices: Sequence[int | None]) -> int:
        return sum(
            matrix.n_bytes
            for matrices, where in zip(self.shape.matrices, devices, strict=False)
            for matrix in matrices
            if where is None and is_repacked(matrix, self.repacked)
        )

    def _shared_bytes(self, on_device: list[int], compute_bytes: int, copied_bytes: int) -> int:
        """Return what devices that share the RAM add to it.

        Their compute buffers, and the copy of the output matrix, are counted whether or not a layer is there,
        so that offloading one more layer to them never needs more RAM than one fewer.
        """
        shared = [
            n_bytes for n_bytes, device in zip(on_device, self.machine.devices, strict=True) if shares_ram(device)
        ]
        if not shared:
            return 0
        idle = sum(compute_bytes for n_bytes in shared if not n_bytes)
        copy = 0 if copied_bytes else self._output_bytes - self.shape.output_bytes
        return sum(shared) + idle + copy
