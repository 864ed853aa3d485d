"""A tiny random model with experts, of Mixtral's kind."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.tiny_model import CHATML, add_tokenizer, vocabulary


def write_tiny_moe(
    path: Path,
    *,
    seed: int = 0,
    n_layer: int = 2,
    n_embd: int = 32,
    n_ff: int = 64,
    n_expert: int = 4,
    n_used: int = 2,
    is_shared: bool = False,
) -> Path:
    """Write a seeded model with F32 weights; two heads of keys and values for two of queries.

    With `is_shared`, one of Qwen2-MoE's kind: another expert, behind a gate of its own, which all tokens go to.
    """
    writer = gguf.GGUFWriter(path, "qwen2moe" if is_shared else "llama")
    writer.add_name("tiny-moe")
    writer.add_file_type(0)
    writer.add_block_count(n_layer)
    writer.add_context_length(4096)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(n_embd // 2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(n_expert)
    writer.add_expert_used_count(n_used)
    if is_shared:
        writer.add_expert_feed_forward_length(n_ff)
        writer.add_expert_shared_feed_forward_length(n_ff)
    add_tokenizer(writer, CHATML)
    n_vocab = len(vocabulary())
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (n_vocab, n_embd)}
    for layer in range(n_layer):
        block: dict[str, tuple[int, ...]] = {f"attn_{part}": (n_embd, n_embd) for part in ("q", "k", "v", "output")}
        block |= {"attn_norm": (n_embd,), "ffn_norm": (n_embd,), "ffn_gate_inp": (n_expert, n_embd)}
        block |= {f"ffn_{part}_exps": (n_expert, n_ff, n_embd) for part in ("gate", "up")}
        block["ffn_down_exps"] = (n_expert, n_embd, n_ff)
        if is_shared:
            block |= {f"ffn_{part}_shexp": (n_ff, n_embd) for part in ("gate", "up")}
            block |= {"ffn_down_shexp": (n_embd, n_ff), "ffn_gate_inp_shexp": (n_embd,)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    shapes |= {"output_norm.weight": (n_embd,), "output.weight": (n_vocab, n_embd)}
    for name, shape in shapes.items():
        weight = np.ones(shape) if name.endswith("norm.weight") else rng.standard_normal(shape)
        scale = 1.0 if len(shape) == 1 or name.startswith("token_embd") else 1 / np.sqrt(shape[-1])
        writer.add_tensor(name, (scale * weight).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
