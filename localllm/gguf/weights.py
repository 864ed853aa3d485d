"""Where a model's bytes are: in which layer, and in which part outside the layers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from localllm.gguf.header import GGUFHeader
from localllm.gguf.tensors import TensorInfo

_BLOCK = re.compile(r"blk\.(\d{1,4})\.")


class Matrix(NamedTuple):
    """A matrix of weights, or as many of one kind as there are experts."""

    type: str
    """ggml's name."""
    n_in: int
    n_out: int
    n_experts: int
    """1 where there is no choice among several."""
    n_bytes: int
    """Of all experts."""


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights, by place. The parts add up to `n_bytes`."""

    n_params: int
    n_bytes: int
    layer_bytes: tuple[int, ...]
    """Of each layer's tensors, `blk.N.…`."""
    token_embd_bytes: int
    """Of the token embedding, `token_embd.…`."""
    output_bytes: int
    """Of the output layer and its norm, `output….`; the norm alone if the embedding is used for output."""
    other_bytes: int
    """Of all else: rotary factors, encoders, per-layer embeddings."""
    ties_embeddings: bool
    """The token embedding is the output layer too."""
    matrices: tuple[tuple[Matrix, ...], ...] = ()
    """What a token is multiplied by: in each layer, and last in the output layer."""

    def plus(self, other: Weights) -> Weights:
        """Return both together: a model's, and those of an adapter made for it."""
        return replace(
            self,
            n_params=self.n_params + other.n_params,
            n_bytes=self.n_bytes + other.n_bytes,
            layer_bytes=tuple(a + b for a, b in zip(self.layer_bytes, other.layer_bytes, strict=True)),
            token_embd_bytes=self.token_embd_bytes + other.token_embd_bytes,
            output_bytes=self.output_bytes + other.output_bytes,
            other_bytes=self.other_bytes + other.other_bytes,
        )

    def scaled(self, factor: float) -> Weights:
        """Return the same weights in another quantization: all parts larger or smaller by a factor, as a guess."""

        def sized(n_bytes: int) -> int:
            return round(n_bytes * factor)

        return replace(
            self,
            n_bytes=sized(self.n_bytes),
            layer_bytes=tuple(map(sized, self.layer_bytes)),
            token_embd_bytes=sized(self.token_embd_bytes),
            output_bytes=sized(self.output_bytes),
            other_bytes=sized(self.other_bytes),
            matrices=tuple(
                tuple(matrix._replace(n_bytes=sized(matrix.n_bytes)) for matrix in layer) for layer in self.matrices
            ),
        )

    @property
    def bpw(self) -> float:
        """Stored bits per weight over the whole model; 0 without weights."""
        return 8 * self.n_bytes / self.n_params if self.n_params else 0.0

    @classmethod
    def from_header(cls, header: GGUFHeader, n_layer: int) -> Weights:
        """Add up a header's tensors. A block beyond `n_layer` counts as other."""
        layers = [0] * n_layer
        places = {"token_embd": 0, "output": 0, "other": 0}
        matrices: list[list[Matrix]] = [[] for _ in range(n_layer + 1)]
        ties_embeddings = header.tensor("output.weight") is None
        output_name = "token_embd.weight" if ties_embeddings else "output.weight"
        for tensor in header.tensors:
            block = _BLOCK.match(tensor.name)
            if block and int(block[1]) < n_layer:
                layers[int(block[1])] += tensor.n_bytes
            else:
                places[_place(tensor.name)] += tensor.n_bytes
            if block and int(block[1]) < n_layer and len(tensor.shape) > 1:
                matrices[int(block[1])].append(_matrix(tensor))
            elif tensor.name == output_name:
                matrices[n_layer].append(_matrix(tensor))
        return cls(
            n_params=sum(tensor.n_params for tensor in header.tensors),
            n_bytes=sum(tensor.n_bytes for tensor in header.tensors),
            layer_bytes=tuple(layers),
            token_embd_bytes=places["token_embd"],
            output_bytes=places["output"],
            other_bytes=places["other"],
            ties_embeddings=ties_embeddings,
            matrices=tuple(map(tuple, matrices)),
        )


def _matrix(tensor: TensorInfo) -> Matrix:
    n_in, n_out, *experts = (*tensor.shape, 1)
    return Matrix(tensor.type.name, n_in, n_out, math.prod(experts), tensor.n_bytes)


def _place(name: str) -> str:
    first = name.split(".", 1)[0]
    if first in ("output", "output_norm"):
        return "output"
    return "token_embd" if first == "token_embd" else "other"
