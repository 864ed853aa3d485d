"""Which prebuilt llama-cpp-python computes on a GPU, and the line that installs it.

Source: the README of llama-cpp-python 0.3.36, "Supported Backends". docs/gpu.md shows the same lines.
"""

from __future__ import annotations

from typing import NamedTuple

from localllm.hardware.gpus import FoundGPU

WHEELS_URL = "https://abetlen.github.io/llama-cpp-python/whl"
PINNED = "0.3.36"
PYTHONS = ((3, 10), (3, 11), (3, 12))
"""For which Python the CUDA and Metal wheels are built."""


class CudaWheel(NamedTuple):
    """A wheel for one version of CUDA."""

    name: str
    cuda: tuple[int, int]
    least_capability: tuple[int, int]
    most_capability: tuple[int, int]


CUDA_WHEELS = (
    CudaWheel("cu132", (13, 2), (7, 5), (99, 0)),
    CudaWheel("cu130", (13, 0), (7, 5), (99, 0)),
    CudaWheel("cu125", (12, 5), (6, 0), (99, 0)),
    CudaWheel("cu124", (12, 4), (6, 0), (99, 0)),
    CudaWheel("cu123", (12, 3), (6, 0), (99, 0)),
    CudaWheel("cu122", (12, 2), (6, 0), (99, 0)),
    CudaWheel("cu121", (12, 1), (6, 0), (99, 0)),
    CudaWheel("cu118", (11, 8), (6, 0), (8, 9)),
)
"""The newest first."""
_OTHERS = {"apple": "metal", "intel": "vulkan"}


def wheel_for(gpu: FoundGPU, *, platform: str) -> str | None:
    """Return the name of the wheel for a GPU; None where there is none.

    Args:
        gpu: what was found.
        platform: as sys.platform.
    """
    if gpu.maker == "nvidia":
        return _cuda_wheel(gpu)
    if gpu.maker == "amd":
        return "hip-radeon" if platform == "win32" else "rocm72"
    return _OTHERS[gpu.maker]


def install_line(wheel: str) -> str:
    """Return the command that replaces the installed llama-cpp-python by a wheel of this name, and builds nothing."""
    return (
        f"pip install --force-reinstall --no-deps --only-binary :all: llama-cpp-python=={PINNED} "
        f"--index-url {WHEELS_URL}/{wheel}"
    )


def _cuda_wheel(gpu: FoundGPU) -> str | None:
    """Return the newest wheel that driver and GPU bear; a driver that does not say is taken to be of this year."""
    for wheel in CUDA_WHEELS:
        driver_bears = gpu.cuda is None or wheel.cuda <= gpu.cuda
        capability = gpu.compute_capability
        if driver_bears and (capability is None or wheel.least_capability <= capability <= wheel.most_capability):
            return wheel.name
    return None
