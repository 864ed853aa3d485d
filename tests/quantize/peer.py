"""llama.cpp's quantizer, and ours asked for the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from localllm.gguf import GGML_TYPES_BY_NAME, read_header
from localllm.llama import QuantizeParams, quantize_model
from localllm.quantize import Imatrix, ImatrixEntry, Mix, MixOptions, Rtn, Workers, file_type, plan_mix, quantize


@dataclass(frozen=True)
class Wanted:
    """A request that both understand."""

    type_name: str
    importance: Mapping[str, np.ndarray] = field(default_factory=dict)
    is_pure: bool = False
    output_type: str | None = None
    embedding_type: str | None = None
    tensor_types: Mapping[str, str] = field(default_factory=dict)

    def by_llama_cpp(self, source: Path, target: Path) -> Path:
        quantize_model(
            source,
            target,
            QuantizeParams(
                ftype=file_type(self.type_name).number,
                n_threads=1,
                allow_requantize=True,
                pure=self.is_pure,
                imatrix=self.importance,
                output_type=_id(self.output_type),
                embedding_type=_id(self.embedding_type),
                tensor_types={pattern: GGML_TYPES_BY_NAME[kind].id for pattern, kind in self.tensor_types.items()},
            ),
        )
        return target

    def mix(self, source: Path) -> Mix:
        patterns = [(re.compile(pattern), GGML_TYPES_BY_NAME[kind]) for pattern, kind in self.tensor_types.items()]
        options = MixOptions(
            tensor_types=tuple(patterns),
            output_type=self.output_type and GGML_TYPES_BY_NAME[self.output_type],  # type: ignore[arg-type]
            embedding_type=self.embedding_type and GGML_TYPES_BY_NAME[self.embedding_type],  # type: ignore[arg-type]
            is_pure=self.is_pure,
        )
        return plan_mix(read_header(source), file_type(self.type_name), options, has_imatrix=bool(self.importance))

    def by_us(self, source: Path, target: Path, *, n_threads: int = 1, slab_bytes: int = 1 << 28) -> Path:
        with Workers(n_threads) as workers:
            method = Rtn(workers, as_imatrix(self.importance) if self.importance else None)
            quantize(read_header(source), target, self.mix(source), method, slab_bytes=slab_bytes)
        return target


def as_imatrix(importance: Mapping[str, np.ndarray]) -> Imatrix:
    """Return the importance as an importance matrix over one token."""
    ones = np.ones(1, dtype=np.int64)
    return Imatrix({name: ImatrixEntry(values[None, :], ones) for name, values in importance.items()})


def types(path: Path) -> dict[str, str]:
    """Return each tensor's type by name, in the order of the file."""
    return {tensor.name: tensor.type.name for tensor in read_header(path).tensors}


def _id(name: str | None) -> int | None:
    return None if name is None else GGML_TYPES_BY_NAME[name].id
