"""The GPUs of this machine, found without llama.cpp: one built for the CPU does not see them."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Maker = Literal["nvidia", "amd", "intel", "apple"]

SYS_DRM = Path("/sys/class/drm")
PROC_NVIDIA = Path("/proc/driver/nvidia/gpus")
_MAKERS: dict[str, Maker] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader")
_CUDA = re.compile(r"CUDA (?:UMD )?Version: *(\d+)\.(\d+)")


@dataclass(frozen=True)
class FoundGPU:
    """A GPU, and what its driver says of it."""

    maker: Maker
    name: str
    compute_capability: tuple[int, int] | None = None
    """Of NVIDIA's."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA that NVIDIA's driver runs."""


def find_gpus() -> list[FoundGPU]:
    """Return the GPUs that the system, or a driver's tool, tells of."""
    if sys.platform == "darwin":
        return [FoundGPU("apple", "Apple GPU")] if platform.machine() == "arm64" else []
    nvidia = nvidia_gpus(_said(*_QUERY), _said("nvidia-smi")) or proc_gpus(PROC_NVIDIA)
    others = [gpu for gpu in drm_gpus(SYS_DRM) if gpu.maker != "nvidia" or not nvidia]
    return [*nvidia, *others]


def nvidia_gpus(listed: str, banner: str) -> list[FoundGPU]:
    """Return the GPUs of nvidia-smi's list of "name, compute capability" lines, and its banner."""
    cuda = _CUDA.search(banner)
    version = (int(cuda[1]), int(cuda[2])) if cuda else None
    rows = [line.rpartition(",") for line in listed.splitlines() if "," in line]
    return [FoundGPU("nvidia", name.strip(), _pair(capability), version) for name, _, capability in rows]


def proc_gpus(folder: Path) -> list[FoundGPU]:
    """Return the GPUs that NVIDIA's kernel module lists, where its tool is missing."""
    found = []
    for file in sorted(folder.glob("*/information")):
        name = re.search(r"Model: *(.+)", _text(file))
        found.append(FoundGPU("nvidia", name[1].strip() if name else "NVIDIA GPU"))
    return found


def drm_gpus(folder: Path) -> list[FoundGPU]:
    """Return the GPUs of the kernel's graphics devices, one for each card."""
    found = []
    for card in sorted(folder.glob("card*")):
        maker = _MAKERS.get(_text(card / "device" / "vendor")) if re.fullmatch(r"card\d+", card.name) else None
        if maker is not None:
            name = _text(card / "device" / "product_name") or f"{maker.upper() if maker == 'amd' else maker} GPU"
            found.append(FoundGPU(maker, name))
    return found


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _pair(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2])) if found else None
