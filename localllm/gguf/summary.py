"""A model file in short, as typed values: what `localllm show` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass

from localllm.errors import InvalidModelFile
from localllm.gguf.header import GGUFHeader
from localllm.gguf.shape import ModelShape
from localllm.gguf.types import FILE_TYPES
from localllm.gguf.values import ArrayRef, MetadataValue

N_ARRAY_SHOWN = 6
"""Elements of an array that a summary repeats."""
MAX_TEXT_SHOWN = 400
"""Characters of a string that a summary repeats."""


@dataclass(frozen=True)
class MetadataLine:
    """One metadata pair, with a long value cut short."""

    key: str
    type: str
    value: bool | int | float | str | list[bool | int | float | str]
    """The value; of an array, its first elements. A number that JSON cannot hold ("inf") is a string."""
    length: int | None
    """Elements of the whole array or characters of the whole string; None for a number."""


@dataclass(frozen=True)
class TypeLine:
    """What is stored in one tensor type."""

    type: str
    n_tensors: int
    n_params: int
    n_bytes: int


@dataclass(frozen=True)
class TensorLine:
    """One tensor."""

    name: str
    type: str
    shape: tuple[int, ...]
    n_bytes: int


@dataclass(frozen=True)
class ModelSummary:
    """A model file in short."""

    path: str
    n_parts: int
    n_bytes: int
    version: int
    architecture: str
    name: str | None
    file_type: str | None
    """llama.cpp's name of the recipe, such as "Q4_K_M"."""
    n_params: int
    bpw: float
    """Stored bits per weight over all tensors."""
    n_tensors: int
    shape: ModelShape | None
    shape_problem: str | None
    """Why there is no shape: an adapter, or numbers that are missing or impossible."""
    types: tuple[TypeLine, ...]
    """Most bytes first."""
    metadata: tuple[MetadataLine, ...]
    tensors: tuple[TensorLine, ...]


def summarize(header: GGUFHeader) -> ModelSummary:
    """Return a header in short.

    Raises:
        InvalidModelFile: the file changed since its header was read.
    """
    shape, problem = _shape(header)
    n_params = sum(tensor.n_params for tensor in header.tensors)
    n_tensor_bytes = sum(tensor.n_bytes for tensor in header.tensors)
    file_type = header.metadata.get("general.file_type")
    name = header.metadata.get("general.name")
    return ModelSummary(
        path=str(header.path),
        n_parts=len(header.parts),
        n_bytes=header.n_bytes,
        version=header.version,
        architecture=header.architecture,
        name=name if isinstance(name, str) else None,
        file_type=FILE_TYPES.get(file_type) if isinstance(file_type, int) else None,
        n_params=n_params,
        bpw=8 * n_tensor_bytes / n_params if n_params else 0.0,
        n_tensors=len(header.tensors),
        shape=shape,
        shape_problem=problem,
        types=_type_lines(header),
        metadata=tuple(
            _metadata_line(key, header.metadata_types[key], value) for key, value in header.metadata.items()
        ),
        tensors=tuple(TensorLine(t.name, t.type.name, t.shape, t.n_bytes) for t in header.tensors),
    )


def _shape(header: GGUFHeader) -> tuple[ModelShape | None, str | None]:
    try:
        return ModelShape.from_header(header), None
    except InvalidModelFile as error:
        return None, error.message


def _type_lines(header: GGUFHeader) -> tuple[TypeLine, ...]:
    totals: dict[str, list[int]] = {}
    for tensor in header.tensors:
        total = totals.setdefault(tensor.type.name, [0, 0, 0])
        total[0] += 1
        total[1] += tensor.n_params
        total[2] += tensor.n_bytes
    ordered = sorted(totals.items(), key=lambda item: (-item[1][2], item[0]))
    return tuple(TypeLine(name, *total) for name, total in ordered)


def _metadata_line(key: str, kind: str, value: MetadataValue) -> MetadataLine:
    if isinstance(value, ArrayRef):
        shown = [_shown(element) for element in value.read(N_ARRAY_SHOWN)]
        return MetadataLine(key, kind, shown, value.length)
    return MetadataLine(key, kind, _shown(value), len(value) if isinstance(value, str) else None)


def _shown(value: bool | int | float | str) -> bool | int | float | str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str) and len(value) > MAX_TEXT_SHOWN:
        return value[: MAX_TEXT_SHOWN - 1] + "…"
    return value
