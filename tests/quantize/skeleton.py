"""Models of any shape with hardly any weights: enough for llama.cpp's quantizer, which never runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

N_ROWS = 2


@dataclass(frozen=True)
class Skeleton:
    """The shape of a model; each matrix has `N_ROWS` rows."""

    arch: str = "llama"
    n_layer: int = 2
    n_embd: int = 256
    n_ff: int = 512
    n_head: int = 2
    n_head_kv: int = 1
    n_expert: int = 0
    is_tied: bool = False
    is_fused: bool = False
    """One tensor for Q, K and V."""
    seed: int = 0
    dtype: str = "float32"

    def write(self, path: Path, *, extra: Mapping[str, np.ndarray] | None = None, alignment: int = 32) -> Path:
        """Write the model; `extra` are more tensors, or others in the place of its own."""
        writer = gguf.GGUFWriter(path, self.arch)
        if alignment != 32:
            writer.add_custom_alignment(alignment)
        writer.add_name("skeleton")
        writer.add_file_type(0)
        writer.add_block_count(self.n_layer)
        writer.add_context_length(128)
        writer.add_embedding_length(self.n_embd)
        writer.add_feed_forward_length(self.n_ff)
        writer.add_head_count(self.n_head)
        writer.add_head_count_kv(self.n_head_kv)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_layer_norm_eps(1e-5)
        writer.add_vocab_size(8)
        if self.n_expert:
            writer.add_expert_count(self.n_expert)
            writer.add_expert_used_count(1)
        for name, values in {**dict(self.tensors()), **(extra or {})}.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def tensors(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield names and weights, norms and biases as float32."""
        rng = np.random.default_rng(self.seed)
        for name, shape in self._shapes():
            values = rng.standard_normal(shape).astype(np.float32)
            yield name, values if len(shape) == 1 else values.astype(self.dtype)

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "token_embd.weight", (N_ROWS, self.n_embd)
        yield "output_norm.weight", (self.n_embd,)
        if not self.is_tied:
            yield "output.weight", (N_ROWS, self.n_embd)
        for layer in range(self.n_layer):
            for name, shape in self._block():
                yield f"blk.{layer}.{name}", shape

    def _block(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "attn_norm.weight", (self.n_embd,)
        for name in ("attn_qkv",) if self.is_fused else ("attn_q", "attn_k", "attn_v"):
            yield f"{name}.weight", (N_ROWS, self.n_embd)
            yield f"{name}.bias", (N_ROWS,)
        yield "attn_output.weight", (N_ROWS, self.n_embd)
        if self.n_expert:
            yield "ffn_gate_inp.weight", (self.n_expert, self.n_embd)
            for name, n_cols in (("gate", self.n_embd), ("up", self.n_embd), ("down", self.n_ff)):
                yield f"ffn_{name}_exps.weight", (self.n_expert, N_ROWS, n_cols)
        else:
            for name, n_cols in (("gate", self.n_embd), ("up", self.n_embd), ("down", self.n_ff)):
                yield f"ffn_{name}.weight", (N_ROWS, n_cols)

    def importance(self) -> dict[str, np.ndarray]:
        """Return an importance for the matrices of all layers: [n_expert * n_cols] float32."""
        rng = np.random.default_rng(self.seed + 1)
        return {
            name: (rng.standard_normal(values.size // N_ROWS) ** 2).astype(np.float32)
            for name, values in self.tensors()
            if name.startswith("blk.") and values.ndim > 1 and "gate_inp" not in name
        }
