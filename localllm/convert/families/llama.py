"""Llama 2 and 3, Mistral, Mixtral, and what is built like them (SmolLM2, Yi, TinyLlama).

llama.cpp rotates neighbouring values of a head, transformers its two halves: so the rows of Q and K are reordered, and
their biases with them.
"""

from __future__ import annotations

from typing import ClassVar

import gguf
import numpy as np

from localllm.convert.config import Config
from localllm.convert.families.decoder import Decoder
from localllm.convert.safetensors import StoredTensor
from localllm.convert.tensors import Array, OutputTensor, changed


class Llama(Decoder):
    """Llama."""

    arch = gguf.MODEL_ARCH.LLAMA
    rope_kinds: ClassVar[tuple[str, ...]] = ("linear", "llama3", "yarn")

    def output(self, name: str, tensor: StoredTensor) -> OutputTensor:
        n_head = self._n_rotated(name)
        if n_head is None:
            return super().output(name, tensor)
        self.expect_shape(name, tensor.shape, n_head * self.head_dim, *tensor.shape[1:])
        return changed(name, tensor, lambda weights: self.rows(name, weights), tensor.shape)

    def rows(self, name: str, weights: Array) -> Array:
        n_head = self._n_rotated(name)
        if n_head is None:
            return weights
        self.expect_shape(name, weights.shape, n_head * self.head_dim, *weights.shape[1:])
        return neighbours(weights, n_head)

    def _n_rotated(self, name: str) -> int | None:
        """Return the heads of Q or K; None of other tensors."""
        return {"attn_q": self.n_head, "attn_k": self.n_head_kv}.get(name.split(".")[-2])


class Mistral(Llama):
    """Mistral: Llama with a sliding window in its first version."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        window = config.get("sliding_window")
        self.note_window(None if window is None else config.count("sliding_window"))


class Mixtral(Mistral):
    """Mixtral: Mistral with experts."""

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        super().add_metadata(writer)
        writer.add_expert_count(self.config.count("num_local_experts"))
        writer.add_expert_used_count(self.config.count("num_experts_per_tok", default=2))


def neighbours(weights: Array, n_head: int) -> Array:
    """Reorder the rows of each head from (x₀ x₁ … y₀ y₁ …) to (x₀ y₀ x₁ y₁ …), where x and y are rotated together.

    Args:
        weights: [n_head * head_dim, …], float32.
        n_head: heads that the rows belong to.
    """
    halves = weights.reshape(n_head, 2, -1, *weights.shape[1:])
    return np.swapaxes(halves, 1, 2).reshape(weights.shape)
