"""A small random LoRA adapter for the tiny model, built in code. Seeded, and strong enough to change what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

N_EMBD, N_FF, N_Q, N_KV, N_LAYER = 64, 128, 64, 32, 2
Shape = tuple[int, ...]


def pair(n_in: int, n_out: int, rank: int) -> tuple[Shape, Shape]:
    """Return the NumPy shapes of the halves for a matrix."""
    return (rank, n_in), (n_out, rank)


def matrices(rank: int = 4, *, n_embd: int = N_EMBD, n_q: int = N_Q) -> dict[str, tuple[Shape, Shape]]:
    """Return the halves' shapes for queries, keys, values and the feed-forward's output in every layer."""
    shapes = {}
    for layer in range(N_LAYER):
        shapes[f"blk.{layer}.attn_q.weight"] = pair(n_embd, n_q, rank)
        shapes[f"blk.{layer}.attn_k.weight"] = pair(n_embd, N_KV, rank)
        shapes[f"blk.{layer}.attn_v.weight"] = pair(n_embd, N_KV, rank)
        shapes[f"blk.{layer}.ffn_down.weight"] = pair(N_FF, n_embd, rank)
    return shapes


def write_tiny_adapter(
    path: str | Path,
    *,
    seed: int = 1,
    arch: str = "llama",
    alpha: float = 4.0,
    shapes: Mapping[str, tuple[Shape, Shape]] | None = None,
    kind: str = "adapter",
    adapter_type: str = "lora",
    dtype: Any = np.float32,
    extra_tensors: Sequence[str] = (),
    omit: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write an adapter of the tiny model.

    Args:
        path: the file to write.
        seed: of the weights.
        arch: the architecture it says it is for.
        alpha: adapter.lora.alpha.
        shapes: the halves' NumPy shapes by the adapted matrix's name; None is `matrices()`.
        kind: general.type.
        adapter_type: adapter.type.
        dtype: of the weights.
        extra_tensors: more tensors, of one weight each.
        omit: tensors to leave out.
        extra: more metadata; a list becomes an array, an int a uint32.
    """
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type(kind)
    writer.add_string("adapter.type", adapter_type)
    writer.add_float32("adapter.lora.alpha", alpha)
    for key, value in (extra or {}).items():
        if isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_array(key, value)
    for name, halves in (matrices() if shapes is None else shapes).items():
        for suffix, shape in zip(("lora_a", "lora_b"), halves, strict=True):
            weight = rng.standard_normal(shape) / np.sqrt(shape[-1])
            if f"{name}.{suffix}" not in omit:
                writer.add_tensor(f"{name}.{suffix}", weight.astype(dtype))
    for name in extra_tensors:
        writer.add_tensor(name, np.ones(1, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Path(path)
