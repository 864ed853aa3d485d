"""A Llama in NumPy, float64, that tells what each of its matrices reads. It knows nothing of llama.cpp but its file
names.

Source: Touvron et al. 2023; Su et al. 2021 (RoPE, of neighbouring pairs); Jiang et al. 2024 (Mixtral's experts).
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Reads = dict[tuple[str, int], Array]
"""By weight and matrix: the rows that it reads, [n_rows, n_cols]."""


class NumpyLlama:
    """A model of `tests.tiny_model`, or of `tests.calibrate.tiny_moe`."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._weights = {tensor.name: np.asarray(tensor.data, dtype=np.float64) for tensor in reader.tensors}

        def field(name: str) -> int:
            return int(reader.fields[f"llama.{name}"].contents())

        self._n_layer = field("block_count")
        self._n_head, self._n_head_kv = field("attention.head_count"), field("attention.head_count_kv")
        self._n_used = field("expert_used_count") if "llama.expert_used_count" in reader.fields else 0

    def reads(self, tokens: list[int]) -> Reads:
        """Return what each matrix of the layers, and the output layer, reads for one chunk."""
        found: Reads = {}
        x = self._weights["token_embd.weight"][tokens]
        for layer in range(self._n_layer):
            x = x + self._attention(x, f"blk.{layer}.", found)
            x = x + self._feed_forward(x, f"blk.{layer}.", found)
        found["output.weight", 0] = _norm(x)
        return found

    def _times(self, x: Array, name: str, found: Reads) -> Array:
        found[name, 0] = x
        product: Array = x @ self._weights[name].T
        return product

    def _attention(self, x: Array, block: str, found: Reads) -> Array:
        n, normed = len(x), _norm(x)
        q, k, v = (self._times(normed, f"{block}attn_{part}.weight", found) for part in "qkv")
        q = _rotate(q.reshape(n, self._n_head, -1))
        k = _rotate(k.reshape(n, self._n_head_kv, -1)).repeat(self._n_head // self._n_head_kv, axis=1)
        v = v.reshape(n, self._n_head_kv, -1).repeat(self._n_head // self._n_head_kv, axis=1)
        logits = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        logits = np.where(np.tri(n, dtype=bool), logits, -np.inf)
        share = _softmax(logits)
        return self._times(np.einsum("hij,jhd->ihd", share, v).reshape(n, -1), f"{block}attn_output.weight", found)

    def _feed_forward(self, x: Array, block: str, found: Reads) -> Array:
        normed = _norm(x)
        if not self._n_used:
            gate = self._times(normed, f"{block}ffn_gate.weight", found)
            up = self._times(normed, f"{block}ffn_up.weight", found)
            return self._times(_silu(gate) * up, f"{block}ffn_down.weight", found)
        return self._experts(normed, block, found)

    def _experts(self, x: Array, block: str, found: Reads) -> Array:
        logits = self._times(x, f"{block}ffn_gate_inp.weight", found)
        chosen = np.argsort(-logits, axis=1)[:, : self._n_used]
        out = np.zeros_like(x)
        share = _softmax(np.take_along_axis(logits, chosen, axis=1))
        gate, up, down = (f"{block}ffn_{part}_exps.weight" for part in ("gate", "up", "down"))
        for expert in range(logits.shape[1]):
            token, slot = np.nonzero(chosen == expert)
            found[gate, expert] = found[up, expert] = rows = x[token]
            hidden = _silu(rows @ self._weights[gate][expert].T) * (rows @ self._weights[up][expert].T)
            found[down, expert] = hidden
            out[token] += share[token, slot][:, None] * (hidden @ self._weights[down][expert].T)
        return out


def _norm(x: Array) -> Array:
    """RMSNorm; the tiny models' norm weights are ones."""
    normed: Array = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
    return normed


def _softmax(x: Array) -> Array:
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    share: Array = p / p.sum(axis=-1, keepdims=True)
    return share


def _silu(x: Array) -> Array:
    gated: Array = x / (1 + np.exp(-x))
    return gated


def _rotate(x: Array) -> Array:
    """RoPE of [n_tokens, n_head, head_dim], base 10,000."""
    half = x.shape[-1] // 2
    angle = np.arange(len(x))[:, None] * 10000.0 ** (-np.arange(half) / half)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    even, odd = x[..., ::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)
