"""What all families share: from the tensors of a checkpoint to those of a GGUF file."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import ClassVar

import gguf

from localllm.convert.config import Config
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import OutputTensor, copied, stacked
from localllm.errors import InvalidCheckpoint, UnsupportedModel

_EXPERT = re.compile(r"(?P<experts>.+\.experts)\.(?P<index>\d+)\.(?P<projection>\w+)\.weight")
_BLOCK = re.compile(r"blk\.(?P<layer>\d+)\.(?P<part>.+)")
_SUFFIXES = (".weight", ".bias")
_DOWNLOAD_AGAIN = "The checkpoint is incomplete, or its config.json belongs to another one: download it again."


class Family(ABC):
    """One architecture family, for one checkpoint. A subclass names its tensors and numbers; the rest is here."""

    arch: ClassVar[gguf.MODEL_ARCH]
    is_encoder: ClassVar[bool] = False
    pooling: gguf.PoolingType | None = None
    """How an encoder's vectors become one, where the architecture says so."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.n_layer = config.count("num_hidden_layers", "n_layer", "n_layers")
        self.notes: list[str] = []
        """What the user should know of the result."""

    @abstractmethod
    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        """Write the numbers that llama.cpp needs."""

    def source_name(self, name: str) -> str | None:
        """Return the name by which `gguf`'s map knows a tensor of the checkpoint; None if it is not needed."""
        return name

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        """Return a tensor under its GGUF name `name`."""
        return copied(name, tensor)

    def computed(self) -> Iterator[OutputTensor]:
        """Yield tensors that are in no checkpoint."""
        yield from ()

    def tensors(self, stored: Mapping[str, StoredTensor]) -> list[OutputTensor]:
        """Return the tensors of the GGUF file.

        Raises:
            InvalidCheckpoint: one is missing, or not of the shape that config.json implies.
            UnsupportedModel: one is not part of this architecture.
        """
        names = gguf.get_tensor_name_map(self.arch, self.n_layer)
        experts: dict[str, dict[int, StoredTensor]] = defaultdict(dict)
        found: dict[str, OutputTensor] = {}
        for stored_name, tensor in stored.items():
            source = self.source_name(stored_name)
            if source is None:
                continue
            if match := _EXPERT.fullmatch(source):
                source = f"{match['experts']}.{match['projection']}.weight"
                experts[_gguf_name(names, source, stored_name)][int(match["index"])] = tensor
            else:
                name = _gguf_name(names, source, stored_name)
                found[name] = self.output(name, tensor)
        for name, parts in experts.items():
            found[name] = stacked(name, self._all_experts(name, parts))
        found |= {tensor.name: tensor for tensor in self.computed()}
        self._check_complete(set(found))
        return list(found.values())

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

    def expect_shape(self, name: str, tensor: StoredTensor, *shape: int) -> None:
        """Check a shape before the tensor is rearranged.

        Raises:
            InvalidCheckpoint: it is another one.
        """
        if tensor.shape != shape:
            raise InvalidCheckpoint(
                f"{name} has the shape {list(tensor.shape)} where config.json implies {list(shape)}.",
                hint=_DOWNLOAD_AGAIN,
            )


def _gguf_name(names: gguf.TensorNameMap, source: str, stored_name: str) -> str:
    name: str | None = names.get_name(source, _SUFFIXES)
    if name is None:
        raise UnsupportedModel(
            f"Tensor {stored_name!r} is not part of this architecture as llama.cpp computes it.",
            hint="The model is a variant; choose the plain one, or report it.",
        )
    return name
