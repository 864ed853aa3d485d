"""Who holds the memory: other programs, our weights, KV cells and buffers; and what is free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.runtime.backend import MemoryUse


@dataclass(frozen=True)
class Part:
    """A share of a memory."""

    name: str
    n_bytes: int


@dataclass(frozen=True)
class Memory:
    """One memory, and who holds it; what is left is free."""

    name: str
    total_bytes: int
    parts: tuple[Part, ...]

    @property
    def free_bytes(self) -> int:
        return max(0, self.total_bytes - sum(part.n_bytes for part in self.parts))


@dataclass(frozen=True)
class RAM:
    """The computer's own memory, as the system tells it."""

    total_bytes: int
    available_bytes: int
    ours_bytes: int
    """What our processes hold that cannot be dropped; mapped files can."""


def read_ram() -> RAM:
    """Ask the system; takes some milliseconds."""
    import psutil

    from localllm.hardware import available_ram_bytes

    me = psutil.Process()
    ours = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            info = process.memory_info()
        except psutil.Error:
            continue
        ours += max(0, info.rss - getattr(info, "shared", 0))
    return RAM(psutil.virtual_memory().total, available_ram_bytes(), ours)


def ram_memory(ram: RAM, uses: Sequence[MemoryUse], served_bytes: int = 0) -> Memory:
    """Say who holds the RAM.

    Args:
        ram: what the system tells.
        uses: of the loaded engines.
        served_bytes: what the models of our own server take.
    """
    taken = ram.total_bytes - ram.available_bytes
    parts = [Part("others", max(0, taken - ram.ours_bytes))]
    whole = [use for use in uses if not use.devices]
    parts += [
        Part("weights", sum(use.weights_bytes for use in whole)),
        Part("KV", sum(use.kv_bytes for use in whole)),
        Part("compute", sum(use.compute_bytes for use in whole)),
        # What of a model that lies on several devices is in RAM, its plan says only as a sum.
        Part("shared with a GPU", sum(use.ram_bytes for use in uses if use.devices)),
        Part("served", served_bytes),
    ]
    return Memory("RAM", ram.total_bytes, _seen(parts))


def device_memory(device: dict[str, Any], uses: Sequence[MemoryUse]) -> Memory:
    """Say who holds the memory of a device, as `check_child` describes it."""
    ours = sum(use.devices.get(device["name"], 0) for use in uses)
    taken = device["memory_total_bytes"] - device["memory_free_bytes"]
    name = f"{device['name']}: {device['description']}"
    parts = [Part("others", max(0, taken - ours)), Part("models", ours)]
    return Memory(name, device["memory_total_bytes"], _seen(parts))


def _seen(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.n_bytes > 0)
