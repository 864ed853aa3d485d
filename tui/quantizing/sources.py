"""The models that one can quantize or measure: those of the store, 16-bit ones first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FULL_TYPES = ("F32", "F16", "BF16")
"""File types that are no loss yet."""


@dataclass(frozen=True)
class ModelChoice:
    """A model of this disk as one chooses it."""

    ref: str
    """What the store finds it by."""
    path: Path
    type_name: str | None
    n_bytes: int

    @property
    def is_full(self) -> bool:
        """Whether its weights have 16 bits or more."""
        return self.type_name in FULL_TYPES


def find_models(model_dirs: Sequence[Path] | None = None) -> list[ModelChoice]:
    """Return all models of the store that can be read, 16-bit ones first. Reads the beginnings of their files."""
    from localllm.store.inventory import Inventory

    inventory = Inventory(model_dirs)
    found: dict[Path, ModelChoice] = {}
    for model in inventory.models:
        if model.path not in found:
            type_name = model.quantization or _type_in(model.path)
            found[model.path] = ModelChoice(inventory.ref(model), model.path, type_name, model.n_bytes)
    return sorted(found.values(), key=lambda choice: (not choice.is_full, choice.ref.casefold()))


def _type_in(path: Path) -> str | None:
    """Return the file type that a header names, most often before the vocabulary."""
    from localllm.errors import LocalLLMError
    from localllm.gguf import FILE_TYPES, glance, read_header

    key = "general.file_type"
    try:
        values = glance(path)
        number = values[key] if key in values else read_header(path).metadata.get(key)
    except LocalLLMError:
        return None
    return FILE_TYPES.get(number) if isinstance(number, int) else None
