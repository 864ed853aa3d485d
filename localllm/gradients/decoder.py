"""A decoder, layer by layer: read from the file when asked for, and freed with the last reference to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from localllm.gguf import GGUFHeader
from localllm.gradients.graph import read_graph
from localllm.gradients.layer import LayerBuilder, check_tensors
from localllm.gradients.output import OutputLayer
from localllm.gradients.pieces import Observe, Piece, RmsNorm
from localllm.gradients.tensors import Array, TensorReader

_EMBEDDING, _OUTPUT, _OUTPUT_NORM = (f"{name}.weight" for name in ("token_embd", "output", "output_norm"))
_ROPE = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


class Decoder:
    """A model for chunks of one length.

    Args:
        header: the model's.
        n_ctx: tokens of a chunk.
        dtype: that all is computed in: float32, or float64 to check derivatives.

    Raises:
        UnsupportedModel: something in the model has no derivatives here.
        InvalidModelFile: a number is missing or impossible.
    """

    def __init__(self, header: GGUFHeader, n_ctx: int, dtype: DTypeLike = np.float32) -> None:
        self.dtype = np.dtype(dtype)
        self._n_ctx = n_ctx
        self._reader = TensorReader(header, dtype)
        self.graph = read_graph(self._reader, n_ctx)
        check_tensors(self._reader, frozenset({_EMBEDDING, _OUTPUT, _OUTPUT_NORM, *_ROPE}))

    @property
    def n_layer(self) -> int:
        return len(self.graph.layers)

    @property
    def name(self) -> str:
        """Of the file."""
        return self._reader.header.path.name

    @property
    def n_vocab(self) -> int:
        return self._reader.info(_EMBEDDING).shape[1]

    def matrices(self, layer: int) -> dict[str, tuple[int, int]]:
        """Return (n_out, n_in) of each weight matrix of a layer, by name."""
        tensors = (tensor for tensor in self._reader.header.tensors if tensor.name.startswith(f"blk.{layer}."))
        return {tensor.name: (tensor.shape[1], tensor.shape[0]) for tensor in tensors if len(tensor.shape) == 2}

    def embed(self, tokens: NDArray[np.integer[Any]]) -> Array:
        """Return what the first layer reads: [*tokens.shape, n_embd]."""
        rows = self._reader.read_some_rows(_EMBEDDING, tokens.reshape(-1))
        rows *= self.graph.embedding_scale
        return rows.reshape(*tokens.shape, -1)

    def layer(self, index: int, observe: Observe = lambda *_: None) -> Piece:
        """Read a layer: a function of one chunk's [n_tokens, n_embd].

        Args:
            index: from 0.
            observe: hears of its linear layers as `backward` reaches them.
        """
        return LayerBuilder(self._reader, self.graph, index, self._n_ctx, observe).build()

    def output(self) -> OutputLayer:
        """Read the output layer, or the embedding that serves as it."""
        norm = RmsNorm(self._reader.read(_OUTPUT_NORM), self.graph.norm_eps)
        weight = self._reader.read(_OUTPUT if _OUTPUT in self._reader else _EMBEDDING)
        return OutputLayer(norm, weight, self.graph.logit_cap)
