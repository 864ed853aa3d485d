"""A model's numbers, read from the metadata under its architecture's name, each within stated bounds."""

from __future__ import annotations

import math

from localllm.errors import InvalidModelFile
from localllm.gguf.header import GGUFHeader
from localllm.gguf.problems import DAMAGED, invalid, printable
from localllm.gguf.values import ArrayRef

MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS: llama.cpp ends the process over more."""


class Hparams:
    """The keys `{architecture}.…` of a header.

    Numbers must be integers: llama.cpp demands uint32 nearly everywhere, and says so itself where it does.
    """

    def __init__(self, header: GGUFHeader) -> None:
        self.header = header
        self._prefix = f"{header.architecture}."

    def has(self, key: str) -> bool:
        """Tell whether the metadata holds `{architecture}.{key}`."""
        return self._prefix + key in self.header.metadata

    def number(self, key: str, lowest: int, highest: int, default: int | None = None) -> int:
        """Return a number; without a default, it must be there.

        Raises:
            InvalidModelFile: it is missing, no integer, or outside `lowest` to `highest`.
        """
        value = self.header.metadata.get(self._prefix + key, default)
        if value is None:
            raise self._problem(key, "is missing", "Download or convert the model again.")
        return self._checked(key, value, lowest, highest)

    def real(self, key: str, default: float | None = None) -> float:
        """Return a number that may have a fraction; without a default, it must be there.

        Raises:
            InvalidModelFile: it is missing, no number, or not finite.
        """
        value = self.header.metadata.get(self._prefix + key, default)
        if value is None:
            raise self._problem(key, "is missing", "Download or convert the model again.")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._problem(key, "is not a finite number")
        return float(value)

    def largest(self, key: str, highest: int) -> int:
        """Return a number that may be one for each layer: then the largest. 0 if it is missing."""
        value = self.header.metadata.get(self._prefix + key, 0)
        if isinstance(value, ArrayRef):
            return max(self._array(key, value, 0, highest), default=0)
        return self._checked(key, value, 0, highest)

    def per_layer(self, key: str, n_layer: int, highest: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return one number for each layer; the file may hold one for all of them.

        Raises:
            InvalidModelFile: an array has another length than `n_layer`, or a number is out of bounds.
        """
        value = self.header.metadata.get(self._prefix + key)
        if value is None:
            return default
        if not isinstance(value, ArrayRef):
            return (self._checked(key, value, 0, highest),) * n_layer
        if value.length != n_layer:
            raise self._problem(key, f"has {value.length:,} entries for {n_layer:,} layers")
        return self._array(key, value, 0, highest)

    def flags(self, key: str, n_layer: int) -> tuple[bool, ...]:
        """Return an array of flags, one for each layer; empty if there is none of that length."""
        value = self.header.metadata.get(self._prefix + key)
        if not isinstance(value, ArrayRef) or value.length != n_layer or value.element_type == "str":
            return ()
        return tuple(bool(flag) for flag in value.read())

    def _array(self, key: str, value: ArrayRef, lowest: int, highest: int) -> tuple[int, ...]:
        if value.length > MAX_LAYERS:
            raise self._problem(key, f"has {value.length:,} entries; a model has at most {MAX_LAYERS} layers")
        return tuple(self._checked(key, entry, lowest, highest) for entry in value.read())

    def _checked(self, key: str, value: object, lowest: int, highest: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            kind = self.header.metadata_types.get(self._prefix + key, "")
            raise self._problem(key, f"is of type {kind} where a whole number is demanded")
        if not lowest <= value <= highest:
            raise self._problem(key, f"is {value:,}; {lowest:,} to {highest:,} is allowed")
        return value

    def _problem(self, key: str, problem: str, hint: str = DAMAGED) -> InvalidModelFile:
        return invalid(self.header.path, f"{printable(self._prefix + key)} {problem}", hint)
