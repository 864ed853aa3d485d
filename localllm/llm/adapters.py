"""LoRA adapters as callers of the Python API name them: files to load, and a choice among the loaded ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from localllm.errors import RequestError
from localllm.hardware.types import MAX_ADAPTER_SCALE, AdapterSpec

Adapter = str | os.PathLike[str] | tuple[str | os.PathLike[str], float] | AdapterSpec
"""An adapter to load: its path, which is applied at scale 1, or its path and the scale."""

_HINT = 'Write [{"id": 0, "scale": 1.0}].'


def adapter_spec(adapter: Adapter) -> AdapterSpec:
    """Return what to load, and at which scale."""
    if isinstance(adapter, AdapterSpec):
        return adapter
    path, scale = adapter if isinstance(adapter, tuple) else (adapter, 1.0)
    return AdapterSpec(Path(path), scale)


def parse_lora(value: object) -> tuple[tuple[int, float], ...] | None:
    """Return the ids and scales of the option `lora`; which ids there are, only the loaded model knows.

    Raises:
        RequestError: it is no list of an id and a scale each, or a value is out of bounds.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RequestError("lora must be a list of adapters.", hint=_HINT)
    return tuple(_choice(entry) for entry in value)


def _choice(entry: object) -> tuple[int, float]:
    if not isinstance(entry, Mapping) or entry.keys() != {"id", "scale"}:
        raise RequestError(f"lora has the entry {entry!r}.", hint=_HINT)
    number, scale = entry["id"], entry["scale"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
        raise RequestError(f"lora has the id {number!r}; it must be a whole number at least 0.", hint=_HINT)
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not abs(scale) <= MAX_ADAPTER_SCALE:
        allowed = f"it must be a number from -{MAX_ADAPTER_SCALE:g} to {MAX_ADAPTER_SCALE:g}"
        raise RequestError(f"lora has the scale {scale!r}; {allowed}.", hint=_HINT)
    return number, float(scale)
