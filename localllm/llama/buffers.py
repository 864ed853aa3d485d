"""What llama.cpp allocates, by its own account. No C function tells it, but its log does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

BufferUse = Literal["model", "KV", "RS", "compute", "output", "LoRA"]
_LINE = re.compile(r"(\S+) +(model|KV|RS|compute|output|LoRA) buffer size = *([\d.]+) MiB")
_REPACKED = "CPU_REPACK"


@dataclass(frozen=True)
class Buffer:
    """One allocation."""

    device: str
    """As llama.cpp names its kind of buffer: "CPU", "CPU_Mapped", "CUDA0"."""
    use: BufferUse
    n_bytes: int
    """Rounded to a hundredth of a MiB."""

    @property
    def is_repacked(self) -> bool:
        """A copy of weights that are also mapped, in the order that the CPU likes."""
        return self.device == _REPACKED


def parse_buffers(log_lines: Iterable[str]) -> tuple[Buffer, ...]:
    """Return the allocations that a load's or a context's log tells of."""
    found = (_LINE.search(line) for line in log_lines)
    return tuple(Buffer(line[1], cast(BufferUse, line[2]), round(float(line[3]) * 1024**2)) for line in found if line)
