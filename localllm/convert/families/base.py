"""What all families share: from the tensors of a checkpoint to those of a GGUF file."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import ClassVar

import gguf

from localllm.convert.config import Config
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import Array, OutputTensor, copied, stacked
from localllm.errors import InvalidCheckpoint, UnsupportedModel

_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<index>\d+)\.(?P<projection>\w+)\.weight")
_BLOCK = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>.+)")
_SUFFIXES = (".weight", ".bias")
_DOWNLOAD_AGAIN = "The checkpoint is incomplete, or its config.json belongs to another one: download it again."


class Family(ABC):
    """One architecture family, for one checkpoint. A subclass names its tensors and numbers; the rest is here."""

    arch: ClassVar[gguf.MODEL_ARCH]
    is_encoder: ClassVar[bool] = False
    ties_output: bool = False
    """Whether the embedding is the output layer, too."""
    pooling: gguf.PoolingType | None = None
    """How an encoder's vectors become one, where the architecture says so."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.n_layer = config.count("num_hidden_layers", "n_layer", "n_layers")
        self.notes: list[str] = []
        """What the user should know of the result."""

    def check(self) -> None:  # noqa: B027 - a family may have nothing to refuse
        """Refuse a checkpoint that llama.cpp would compute otherwise than it was trained.

        Raises:
            UnsupportedModel: something in config.json has no counterpart in llama.cpp.
            InvalidCheckpoint: something in it makes no sense.
        """

    @abstractmethod
    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        """Write the numbers that llama.cpp needs."""

    def source_name(self, name: str) -> str | None:
        """Return the name by which `gguf`'s map knows a tensor of the checkpoint; None if it is not needed."""
        return name

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        """Return a tensor under its GGUF name `name`."""
        return copied(name, tensor)

    def rows(self, name: str, weights: Array) -> Array:
        """Return the rows of the matrix `name` in the GGUF file's order; an adapter's have the same.

        Raises:
            InvalidCheckpoint: there are more or fewer than config.json implies.
        """
        return weights

    def computed(self) -> Iterator[OutputTensor]:
        """Yield tensors that are in no checkpoint."""
        yield from ()

    def tensors(self, stored: Mapping[str, StoredTensor]) -> list[OutputTensor]:
        """Return the tensors of the GGUF file.

        Raises:
            InvalidCheckpoint: one is missing, or not of the shape that config.json implies.
            UnsupportedModel: one is not part of this architecture.
        """
        experts: dict[str, dict[int, StoredTensor]] = defaultdict(dict)
        found: dict[str, OutputTensor] = {}
        for stored_name, tensor in stored.items():
            place = self.place(stored_name)
            if place is None:
                continue
            name, expert = place
            if expert is None:
                found[name] = self.output(name, tensor)
            else:
                experts[name][expert] = tensor
        for name, parts in experts.items():
            found[name] = stacked(name, self._all_experts(name, parts))
        found |= {tensor.name: tensor for tensor in self.computed()}
        self._check_complete(set(found))
        return list(found.values())

    def place(self, stored_name: str) -> tuple[str, int | None] | None:
        """Return the GGUF name of a tensor of the checkpoint, and of which expert it is, if of one; None if not needed.

        Raises:
            UnsupportedModel: it is not part of this architecture.
        """
        source = self.source_name(stored_name)
        if source is None:
            return None
        match = _EXPERT.fullmatch(source)
        if match is not None:
            source = f"{match['experts']}.{match['projection']}.weight"
        name: str | None = self._names.get_name(source, _SUFFIXES)
        if name is None:
            raise UnsupportedModel(
                f"Tensor {stored_name!r} is not part of this architecture as llama.cpp computes it.",
                hint="The model is a variant; choose the plain one, or report it.",
            )
        return name, None if match is None else int(match["index"])

    @cached_property
    def _names(self) -> gguf.TensorNameMap:
        return gguf.get_tensor_name_map(self.arch, self.n_layer)

    def _all_experts(self, name: str, parts: dict[int, StoredTensor]) -> list[StoredTensor]:
        n_expert = self.config.count("num_local_experts", "num_experts")
        if sorted(parts) != list(range(n_expert)) or len({part.shape for part in parts.values()}) > 1:
            raise InvalidCheckpoint(
                f"{name} has {len(parts)} experts, or of several shapes; config.json names {n_expert}.",
                hint=_DOWNLOAD_AGAIN,
            )
        return [parts[index] for index in range(n_expert)]

    def _check_complete(self, names: set[str]) -> None:
        """Check that there is an embedding and that every block has what any block has; llama.cpp checks the rest."""
        blocks: dict[int, set[str]] = {layer: set() for layer in range(self.n_layer)}
        for name in names:
            if match := _BLOCK.fullmatch(name):
                blocks[int(match["layer"])].add(match["part"])
        every = set().union(*blocks.values())
        missing = [f"blk.{layer}.{part}" for layer, parts in blocks.items() for part in sorted(every - parts)]
        missing += sorted({"token_embd.weight"} - names)
        if missing or not every:
            shown = missing[0] if missing else "every block"
            raise InvalidCheckpoint(f"{max(1, len(missing))} tensors are missing, {shown} first.", hint=_DOWNLOAD_AGAIN)

    def expect_shape(self, name: str, found: tuple[int, ...], *shape: int) -> None:
        """Check a shape before the tensor is rearranged.

        Raises:
            InvalidCheckpoint: it is another one.
        """
        if found != shape:
            raise InvalidCheckpoint(
                f"{name} has the shape {list(found)} where config.json implies {list(shape)}.",
                hint=_DOWNLOAD_AGAIN,
            )
