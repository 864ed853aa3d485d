"""Families of decoders whose derivatives are known here, and how they differ.

Which optional tensors a layer has (biases, norms of q and k, norms behind a block, fused projections) does not belong
here: the file says it, and llama.cpp loads no file with tensors that its family does not know.

Source: src/models/*.cpp of the pinned llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.gradients.feed_forward import Activation, gelu, silu


@dataclass(frozen=True)
class Windows:
    """Layers that see the last tokens only, and where their RoPE differs."""

    pattern: int
    """Every layer of this number, counted from 1, sees all, if the file does not say."""
    n_window: int = 0
    """Tokens, if the file does not say; 0: no windows then."""
    rope_base: float | None = None
    """If the file does not say; None: as in the other layers."""
    rope_is_scaled: bool = False
    """Linear scaling counts for them, too."""


@dataclass(frozen=True)
class Family:
    """How an architecture differs from others."""

    turns_neighbours: bool = False
    """RoPE turns neighbouring values; else those half a head apart."""
    rope_skips: int = 0
    """Every layer of this number, counted from 1, has no RoPE; 0: all have it."""
    activation: Activation = silu
    scales_embedding: bool = False
    """Embeddings are multiplied by √n_embd."""
    windows: Windows | None = None
    score_cap: float | None = None
    """Of attention's scores, if the file does not say; 0: none. None: never."""
    logit_cap: float | None = None
    """Of the logits, likewise."""
    n_layer_wide: int = 0
    """The model with so many layers scales its scores by √(n_head / n_embd), not by √(1 / head_dim)."""


FAMILIES = {
    "llama": Family(turns_neighbours=True),
    "smollm3": Family(turns_neighbours=True, rope_skips=4),
    "qwen2": Family(),
    "qwen3": Family(),
    "phi3": Family(),
    "gemma2": Family(
        activation=gelu,
        scales_embedding=True,
        windows=Windows(pattern=2, n_window=4096, rope_is_scaled=True),
        score_cap=50.0,
        logit_cap=30.0,
        n_layer_wide=46,
    ),
    "gemma3": Family(
        activation=gelu,
        scales_embedding=True,
        windows=Windows(pattern=6, rope_base=10000.0),
        logit_cap=0.0,
        n_layer_wide=62,
    ),
}
"""By GGUF's name of the architecture. Mistral and SmolLM2 are "llama"; Phi-4 is "phi3"."""
