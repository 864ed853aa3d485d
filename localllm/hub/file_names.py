"""What the names of GGUF files say: the quantization, and which part of a split model it is.

Names are a habit, not a format. Where a file is on this disk, its header knows better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_QUANTIZATION = re.compile(
    r"(?<![A-Za-z0-9])(?:UD-)?"
    r"(I?Q[1-8](?:_[0-9KSMLXN]+)*|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?P<head>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_OTHERS = re.compile(r"(?:^|[-._])(mmproj|imatrix|mtp|eagle3?)(?:[-._]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """A part of a model that is split over several files."""

    head: str
    """What the names of all parts begin with, folders included."""
    index: int
    """From 1."""
    count: int


def quantization_of(path: str) -> str | None:
    """Return the quantization that a file's name says, as "Q4_K_M", or the name of the folder that it is in.

    The last one of a name counts: what comes before is the model's own name.
    """
    for part in reversed(PurePosixPath(path).parts):
        found = _QUANTIZATION.findall(part)
        if found:
            return re.sub(r"^FP(?=16|32)", "F", str(found[-1]).upper())
    return None


def shard_of(path: str) -> Shard | None:
    """Return which part of a split model a file is; None if it is whole."""
    found = _SHARD.fullmatch(path)
    return Shard(found["head"], int(found["index"]), int(found["count"])) if found else None


def is_model(path: str) -> bool:
    """Return whether a name is that of a model, and not of a projector, an importance matrix or a head for drafting."""
    name = PurePosixPath(path).name
    return name.lower().endswith(".gguf") and not _OTHERS.search(name)
