"""Tiny random models whose memory cannot be rolled back: Mamba, and a hybrid of Mamba and attention (Jamba)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.tiny_model import CHATML, add_tokenizer, vocabulary

D_CONV = 4
D_STATE = 16
DT_RANK = 8
N_HEAD = 2

Weights = dict[str, NDArray[np.floating]]


def write_tiny_recurrent(
    path: Path, *, arch: Literal["mamba", "jamba"] = "mamba", seed: int = 0, n_embd: int = 64, n_ctx: int = 4096
) -> Path:
    """Write a seeded random model of two layers with F32 weights; a hybrid's second layer is attention.

    Source: Gu and Dao 2023 (Mamba), Lieber et al. 2024 (Jamba); names and shapes as llama.cpp's `models/mamba.cpp` and
    `models/jamba.cpp` read them.
    """
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(f"tiny {arch}")
    writer.add_file_type(0)
    writer.add_block_count(2)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(2 * n_embd if arch == "jamba" else 0)
    writer.add_head_count(N_HEAD if arch == "jamba" else 0)
    if arch == "jamba":
        writer.add_head_count_kv([0, N_HEAD])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_ssm_conv_kernel(D_CONV)
    writer.add_ssm_inner_size(2 * n_embd)
    writer.add_ssm_state_size(D_STATE)
    writer.add_ssm_time_step_rank(DT_RANK)
    add_tokenizer(writer, CHATML)
    for name, weight in _weights(arch, n_embd, np.random.default_rng(seed)).items():
        writer.add_tensor(name, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _weights(arch: str, n_embd: int, rng: np.random.Generator) -> Weights:
    n_vocab = len(vocabulary())
    weights: Weights = {"token_embd.weight": rng.standard_normal((n_vocab, n_embd))}
    for layer in range(2):
        is_hybrid = arch == "jamba"
        mixer = _attention(n_embd, rng) if is_hybrid and layer == 1 else _mamba(n_embd, rng, with_norms=is_hybrid)
        block = {"attn_norm.weight": np.ones(n_embd), **mixer}
        if is_hybrid:
            block |= _feed_forward(n_embd, rng)
        weights |= {f"blk.{layer}.{name}": weight for name, weight in block.items()}
    return weights | {"output_norm.weight": np.ones(n_embd), "output.weight": 4 * _matrix(n_vocab, n_embd, rng)}


def _matrix(n_out: int, n_in: int, rng: np.random.Generator) -> NDArray[np.floating]:
    return rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)


def _mamba(n_embd: int, rng: np.random.Generator, *, with_norms: bool) -> Weights:
    d_inner = 2 * n_embd
    norms = {"ssm_dt_norm.weight": DT_RANK, "ssm_b_norm.weight": D_STATE, "ssm_c_norm.weight": D_STATE}
    return {
        "ssm_in.weight": _matrix(2 * d_inner, n_embd, rng),
        "ssm_conv1d.weight": _matrix(d_inner, D_CONV, rng),
        "ssm_conv1d.bias": 0.1 * rng.standard_normal(d_inner),
        "ssm_x.weight": _matrix(DT_RANK + 2 * D_STATE, d_inner, rng),
        "ssm_dt.weight": _matrix(d_inner, DT_RANK, rng),
        "ssm_dt.bias": rng.uniform(-5, -3, d_inner),
        "ssm_a": -np.tile(np.arange(1.0, D_STATE + 1), (d_inner, 1)),
        "ssm_d": np.ones(d_inner),
        "ssm_out.weight": _matrix(n_embd, d_inner, rng),
        **({name: np.ones(n) for name, n in norms.items()} if with_norms else {}),
    }


def _attention(n_embd: int, rng: np.random.Generator) -> Weights:
    return {f"attn_{name}.weight": _matrix(n_embd, n_embd, rng) for name in ("q", "k", "v", "output")}


def _feed_forward(n_embd: int, rng: np.random.Generator) -> Weights:
    return {
        "ffn_norm.weight": np.ones(n_embd),
        "ffn_gate.weight": _matrix(2 * n_embd, n_embd, rng),
        "ffn_up.weight": _matrix(2 * n_embd, n_embd, rng),
        "ffn_down.weight": _matrix(n_embd, 2 * n_embd, rng),
    }
