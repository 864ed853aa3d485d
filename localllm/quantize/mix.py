"""Which type each tensor of a model gets, under a file type and the caller's exceptions.

Source: `llama_tensor_get_type` and `tensor_type_fallback` in llama-quant.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from localllm.errors import RequestError
from localllm.gguf import GGML_TYPES_BY_NAME, GGMLType, GGUFHeader, TensorInfo, printable
from localllm.quantize.categories import Category, category, file_order, may_be_quantized
from localllm.quantize.file_types import FileType, is_quantized
from localllm.quantize.mix_rules import ModelFacts, Rules

_FALLBACKS = {
    "iq4_xs": "iq4_nl", "q2_K": "q4_0", "q3_K": "q4_0", "q4_K": "q5_0", "q5_K": "q5_1", "q6_K": "q8_0",
}  # fmt: skip
"""Types of blocks of 256, and what takes their place where rows are only a multiple of 32."""
_PER_LAYER_EMBEDDING = "per_layer_token_embd.weight"


@dataclass(frozen=True)
class MixOptions:
    """What the caller wants otherwise than the file type has it."""

    tensor_types: tuple[tuple[re.Pattern[str], GGMLType], ...] = ()
    """Types for tensors in whose name the pattern is found; the first that is found counts."""
    output_type: GGMLType | None = None
    """Of output.weight, or of a token embedding that is the output layer too."""
    embedding_type: GGMLType | None = None
    """Of the token embedding."""
    is_pure: bool = False
    """One type for all, without the file type's rules."""


@dataclass(frozen=True)
class Mix:
    """What a file will be made of."""

    file_type: FileType
    types: Mapping[str, GGMLType]
    """The type of each tensor by name, in the order of the file."""
    fallbacks: tuple[str, ...] = field(default=())
    """Tensors whose rows are no whole number of the blocks that were meant for them."""

    def n_bytes(self, header: GGUFHeader) -> int:
        """Return the bytes of all tensors' data, without padding."""
        return sum(self.types[tensor.name].n_bytes(tensor.n_params) for tensor in header.tensors)


def plan_mix(
    header: GGUFHeader, file_type: FileType, options: MixOptions | None = None, *, has_imatrix: bool = False
) -> Mix:
    """Choose the type of each tensor.

    Args:
        header: the source model's.
        file_type: the mix to make.
        options: exceptions from it.
        has_imatrix: an importance matrix is at hand, which some file types spend bits differently for.

    Raises:
        InvalidModelFile: a number of the model is missing or impossible.
        RequestError: a type that was asked for cannot hold the tensor.
    """
    options = options or MixOptions()
    planner = _Planner(file_type, options, ModelFacts.from_header(header), has_imatrix)
    types = {tensor.name: planner.type_of(tensor) for tensor in sorted(header.tensors, key=file_order)}
    return Mix(file_type, types, tuple(planner.fallbacks))


def fitting_type(kind: GGMLType, n_cols: int) -> GGMLType:
    """Return a type for rows of `n_cols` weights: `kind`, or what takes its place where its blocks do not fit."""
    if n_cols % kind.block_size == 0:
        return kind
    smaller = GGML_TYPES_BY_NAME[_FALLBACKS.get(kind.name, kind.name)]
    return smaller if n_cols % smaller.block_size == 0 else GGML_TYPES_BY_NAME["f16"]


def needs_importance(name: str, kind: GGMLType, file_type: FileType) -> bool:
    """Tell whether a tensor would be garbage without an importance matrix: Q2_K in all of a model."""
    is_spared = category(name) in (Category.TOKEN_EMBD, Category.OUTPUT)
    return file_type.name == "Q2_K_S" and kind.name == "q2_K" and not is_spared


class _Planner:
    """Asked about each tensor of a model, in the file's order."""

    def __init__(self, file_type: FileType, options: MixOptions, facts: ModelFacts, has_imatrix: bool) -> None:
        self._base = file_type.base
        self._options = options
        self._facts = facts
        self._rules = Rules(file_type.name, facts, has_imatrix)
        self.fallbacks: list[str] = []

    def type_of(self, tensor: TensorInfo) -> GGMLType:
        if not may_be_quantized(tensor, self._facts.architecture):
            return tensor.type
        part = category(tensor.name)
        named = self._named(tensor.name)
        asked = self._asked_for(tensor.name, part, named)
        if asked is not None:
            return _checked(tensor, asked)
        if not is_quantized(self._base):
            return self._base
        wanted = named or (self._base if self._options.is_pure else self._by_rule(tensor, part))
        fitting = fitting_type(wanted, tensor.shape[0])
        if fitting is not wanted:
            self.fallbacks.append(tensor.name)
        return fitting

    def _named(self, name: str) -> GGMLType | None:
        return next((kind for pattern, kind in self._options.tensor_types if pattern.search(name)), None)

    def _asked_for(self, name: str, part: Category, named: GGMLType | None) -> GGMLType | None:
        """The large table of per-layer embeddings may be named apart from the token embedding."""
        if part is Category.TOKEN_EMBD and not (name == _PER_LAYER_EMBEDDING and named):
            return self._options.embedding_type
        return self._options.output_type if part is Category.OUTPUT else None

    def _by_rule(self, tensor: TensorInfo, part: Category) -> GGMLType:
        if part is Category.OUTPUT or (self._facts.is_tied and part is Category.TOKEN_EMBD):
            return self._options.output_type or self._output_type(tensor.shape[0])
        return GGML_TYPES_BY_NAME[self._rules.type_of(tensor.name, part, self._base.name)]

    def _output_type(self, n_cols: int) -> GGMLType:
        is_eight = self._base.name == "q8_0" or self._facts.is_falcon or n_cols % self._base.block_size
        return GGML_TYPES_BY_NAME["q8_0" if is_eight else "q6_K"]


def _checked(tensor: TensorInfo, kind: GGMLType) -> GGMLType:
    if tensor.shape[0] % kind.block_size:
        rows = f"{printable(tensor.name)} has rows of {tensor.shape[0]:,} weights"
        raise RequestError(
            f"{rows}; {kind.name.upper()} takes multiples of {kind.block_size}.",
            hint=f"Choose {fitting_type(kind, tensor.shape[0]).name.upper()} for it.",
        )
    return kind
