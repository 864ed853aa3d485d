"""Tiny random decoders of every family, written without torch; every parameter is random, norms and biases too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.tiny_model import add_tokenizer, add_value, vocabulary

N_EMBD, N_FF, N_HEAD, N_HEAD_KV = 64, 96, 4, 2
HEAD_DIM, WIDE = 16, 32
"""Usual is n_embd / n_head."""
QKV = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Case:
    """A model to write."""

    name: str
    arch: str
    n_layer: int = 3
    is_tied: bool = False
    is_fused: bool = False
    """q, k and v in one matrix, and gate and up in one."""
    biases: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    """Beside those that every layer has."""
    keys: dict[str, Any] = field(default_factory=dict)
    """More metadata, without the architecture's name."""
    vectors: dict[str, list[float]] = field(default_factory=dict)
    """More tensors outside the layers."""
    head_dim: int = HEAD_DIM
    n_rot: int = HEAD_DIM
    tolerance: float = 1e-5
    """Of logits against llama.cpp's, over the largest; its GELU is a table of 16-bit numbers."""


GEMMA = {
    "norms": ("post_attention_norm", "post_ffw_norm"),
    "is_tied": True,
    "head_dim": WIDE,
    "n_rot": WIDE,
    "tolerance": 1e-3,
}
QK_NORMS = ("attn_q_norm", "attn_k_norm")
CASES = (
    Case("llama", "llama"),
    Case("llama-tied", "llama", is_tied=True),
    Case("llama-linear", "llama", keys={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    Case("llama-3", "llama", vectors={"rope_freqs.weight": [1.0 + i / 2 for i in range(HEAD_DIM // 2)]}),
    Case("llama-biases", "llama", biases=(*QKV, "attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    Case("qwen2", "qwen2", biases=QKV),
    Case("qwen3", "qwen3", norms=QK_NORMS, head_dim=WIDE, n_rot=WIDE),
    Case("smollm3", "smollm3", n_layer=5),
    Case("phi3", "phi3", is_fused=True),
    Case("phi3-part", "phi3", is_fused=True, n_rot=8),
    Case(
        "phi3-long",
        "phi3",
        is_fused=True,
        keys={"rope.scaling.type": "longrope", "rope.scaling.attn_factor": 1.25},
        vectors={
            "rope_factors_short.weight": [1.0 + i / 8 for i in range(HEAD_DIM // 2)],
            "rope_factors_long.weight": [3.0] * (HEAD_DIM // 2),
        },
    ),
    Case("gemma2", "gemma2", keys={"attention.sliding_window": 5, "final_logit_softcapping": 4.0,
         "attn_logit_softcapping": 3.0}, n_layer=4, **GEMMA),
    Case("gemma3", "gemma3", n_layer=7, keys={"attention.sliding_window": 5, "rope.freq_base": 1e6,
         "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
         **{**GEMMA, "norms": (*GEMMA["norms"], *QK_NORMS)}),
)  # fmt: skip


def write_tiny_decoder(path: Path, case: Case, seed: int = 0) -> Path:
    """Write the model of a case, in F32."""
    writer = gguf.GGUFWriter(path, case.arch)
    writer.add_file_type(0)
    writer.add_block_count(case.n_layer)
    writer.add_context_length(512)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_key_length(case.head_dim)
    writer.add_value_length(case.head_dim)
    writer.add_rope_dimension_count(case.n_rot)
    writer.add_layer_norm_rms_eps(1e-3)
    add_tokenizer(writer, None)
    for key, value in ({"rope.freq_base": 500.0} | case.keys).items():
        add_value(writer, f"{case.arch}.{key}", value)
    rng = np.random.default_rng(seed)
    for name, shape in _shapes(case).items():
        writer.add_tensor(name, _drawn(rng, shape))
    for name, values in case.vectors.items():
        writer.add_tensor(name, np.asarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(case: Case) -> dict[str, tuple[int, ...]]:
    n_vocab, n_q, n_kv = len(vocabulary()), N_HEAD * case.head_dim, N_HEAD_KV * case.head_dim
    if case.is_fused:
        matrices = {"attn_qkv": (n_q + 2 * n_kv, N_EMBD), "ffn_up": (2 * N_FF, N_EMBD)}
    else:
        matrices = {"attn_q": (n_q, N_EMBD), "attn_k": (n_kv, N_EMBD), "attn_v": (n_kv, N_EMBD)}
        matrices |= {"ffn_gate": (N_FF, N_EMBD), "ffn_up": (N_FF, N_EMBD)}
    matrices |= {"attn_output": (N_EMBD, n_q), "ffn_down": (N_EMBD, N_FF)}
    block: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in matrices.items()}
    block |= {f"{name}.bias": matrices[name][:1] for name in case.biases}
    for name in ("attn_norm", "ffn_norm", *case.norms):
        block[f"{name}.weight"] = (case.head_dim if name in QK_NORMS else N_EMBD,)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, N_EMBD), "output_norm.weight": (N_EMBD,)}
    shapes |= {} if case.is_tied else {"output.weight": (n_vocab, N_EMBD)}
    return shapes | {f"blk.{i}.{name}": shape for i in range(case.n_layer) for name, shape in block.items()}


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    drawn = rng.standard_normal(shape)
    drawn = 1 + 0.3 * drawn if len(shape) == 1 else drawn * 1.5 / np.sqrt(shape[-1])
    return drawn.astype(np.float32)
