"""What this machine has for running models, and what to do where that is not enough."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from localllm import paths
from localllm._version import __version__
from localllm.errors import EngineError
from localllm.gguf import printable
from localllm.hardware import available_ram_bytes, format_bytes, n_compute_threads
from localllm.hardware.gpus import FoundGPU, find_gpus
from localllm.hardware.placement import offload_devices
from localllm.hardware.sizes import GIB
from localllm.hardware.types import Device
from localllm.hardware.wheels import PYTHONS, install_line, wheel_for

FAST_FEATURES = frozenset({"AVX2", "NEON", "DOTPROD", "RISCV_V", "VXE"})
"""Without one of these, llama.cpp computes several times slower."""
LEAST_RAM_BYTES = 2 * GIB
LEAST_DISK_BYTES = 10 * GIB
LEAST_BYTES_S = 8e9
_ROW, _N_ROWS = 4096, 4096


@dataclass(frozen=True)
class Finding:
    """One line of a check-up."""

    name: str
    is_ok: bool
    text: str
    advice: str = ""
    """What to do about it, or what is worth knowing."""


def check_machine(find: Callable[[], list[FoundGPU]] = find_gpus) -> Iterator[Finding]:
    """Yield what there is, one thing after the other; measuring memory's speed takes a moment.

    Args:
        find: finds GPUs without llama.cpp.
    """
    from localllm.llama import list_devices

    devices = list_devices()
    yield _versions()
    yield _cpu()
    yield _threads()
    yield _ram()
    yield _bandwidth(devices)
    yield from _gpus(devices, find())
    yield _disk(paths.models_dir())
    yield from _battery()


def _versions() -> Finding:
    from localllm.llama import build_info

    python = ".".join(map(str, sys.version_info[:3]))
    return Finding("versions", True, f"localllm {__version__}, llama.cpp {build_info()}, Python {python}")


def _cpu() -> Finding:
    from localllm.llama import cpu_features, list_devices
    from localllm.llama.amx import REBUILD, amx_fails

    name = next((device.description for device in list_devices() if device.kind == "cpu"), platform.machine())
    features = cpu_features()
    text = f"{printable(name)}: {', '.join(sorted(features)) or 'no features'}"
    if amx_fails():
        return Finding("cpu", False, text, f"Its AMX kernels fail, so they are not used; mend the build: {REBUILD}")
    is_fast = bool(features & FAST_FEATURES)
    advice = "" if is_fast else "This llama.cpp was built without vector instructions: install it again, from source."
    return Finding("cpu", is_fast, text, advice)


def _threads() -> Finding:
    n_threads, n_cpus = n_compute_threads(), os.cpu_count() or 1
    advice = "Slower cores, and second threads of a core, would make it slower." if n_threads < n_cpus else ""
    return Finding("threads", True, f"{n_threads} of {n_cpus} logical CPUs are used", advice)


def _ram() -> Finding:
    import psutil

    free, total, swap = available_ram_bytes(), psutil.virtual_memory().total, psutil.swap_memory()
    text = f"{format_bytes(free)} of {format_bytes(total)} free; swap: {format_bytes(swap.total)}"
    is_ok = free >= LEAST_RAM_BYTES
    return Finding("ram", is_ok, text, "" if is_ok else "End other programs: a small model takes 1 to 2 GiB.")


def _bandwidth(devices: tuple[Device, ...]) -> Finding:
    """Measure how fast all threads together read memory: what bounds how fast tokens are made.

    Where one thread alone is faster, something else computes, and the others wait for it.
    """
    cpu = next(device.name for device in devices if device.kind == "cpu")
    try:
        rate = max(_bytes_s(cpu, n_threads) for n_threads in (n_compute_threads(), 1))
    except EngineError as error:
        return Finding("bandwidth", False, error.message, error.hint or "")
    is_ok = rate >= LEAST_BYTES_S
    advice = "" if is_ok else "End other programs and measure again; memory in one channel only is half as fast."
    return Finding("bandwidth", is_ok, f"{rate / 1e9:.1f} GB/s read from memory", advice)


def _bytes_s(device: str, n_threads: int) -> float:
    from localllm.llama.kernels import Bench, Product

    with Bench(device, n_threads) as bench:
        products = [Product("f32", _ROW, _N_ROWS, is_repacked=False)] * 2
        return 2 * _ROW * _N_ROWS * 4 / bench.products_s(products, 1)


def _gpus(devices: tuple[Device, ...], found: list[FoundGPU]) -> Iterator[Finding]:
    used = offload_devices(devices)
    for device in used:
        free, total = format_bytes(device.memory_free_bytes), format_bytes(device.memory_total_bytes)
        is_ok = device.memory_free_bytes * 2 >= device.memory_total_bytes
        advice = "" if is_ok else "Other programs hold more than half of its memory."
        yield Finding("gpu", is_ok, f"{device.name}: {printable(device.description)}, {free} of {total} free", advice)
    if used:
        return
    for gpu in found:
        wheel = wheel_for(gpu, platform=sys.platform)
        advice = "There is no prebuilt llama.cpp for it." if wheel is None else f"Let it compute: {install_line(wheel)}"
        if wheel is not None and sys.version_info[:2] not in PYTHONS:
            advice += f" (in an environment with Python 3.{PYTHONS[-1][1]}: there is none for newer ones)"
        is_idle = gpu.maker != "intel"
        yield Finding(
            "gpu", not is_idle, f"{printable(gpu.name)} is not used: llama.cpp was built for the CPU.", advice
        )
    if not found:
        yield Finding("gpu", True, "none; models run on the CPU")


def _disk(folder: Path) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    is_ok = free >= LEAST_DISK_BYTES
    advice = "" if is_ok else "A model takes 1 to 20 GiB: remove files, or set LOCALLLM_HOME to a larger disk."
    return Finding("disk", is_ok, f"{format_bytes(free)} free for models at {printable(str(folder), 200)}", advice)


def _battery() -> Iterator[Finding]:
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None and not battery.power_plugged:
        yield Finding("power", True, f"on battery, {battery.percent:.0f} %", "Plugged in, it computes faster.")
