"""Which folds a model allows: those that change nothing, in graphs that are known.

A layer of the architectures below is

    x += [norm](attn_output · attention(q, k, v · attn_norm(x)))
    x += [norm](ffn_down · (act(gate) ⊙ up)(ffn_norm(x)))

and so these channels can be scaled where they are read, if they are scaled back where they are made:

| made by | read by | |
|---|---|---|
| attn_norm | q, k, v | its bias, too |
| ffn_norm | gate, up | with experts: those of all, the router, the shared expert and its gate |
| v | attn_output | attention is a weighted mean of v's rows. A channel is shared by the query heads of a KV head |
| up | ffn_down | only where up is multiplied by the activated gate; for each expert by itself |

Norms that follow (Gemma), those of q and k (Qwen3), and what is done to q and k alone stand in no fold's way. The
output norm is never folded into the output layer: llama.cpp hands its result out as the model's embedding, and in many
models that layer is the token embedding. GGUF holds Gemma's norms as they are multiplied, 1 added already.

Source: Lin et al. 2023 (AWQ), section 3.2 and its public code; the graphs in llama.cpp's src/models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from localllm.gguf import GGUFHeader, ModelShape, TensorInfo, printable
from localllm.gguf.problems import invalid, quoted
from localllm.quantize.awq.folds import NO_CHANNEL, Channels, Fold, Part
from localllm.quantize.categories import layer_of

ARCHITECTURES = frozenset(
    {"llama", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi3", "gemma", "gemma2", "gemma3", "smollm3",
     "gpt2"}
)  # fmt: skip
"""Those whose graph is as above."""
_FUSED_GATE = frozenset({"phi3"})
"""Their ffn_up holds the gate in its first half."""
_KNOWN = re.compile(
    r"(attn_(norm|q|k|v|qkv|output)|ffn_(norm|gate|up|down))\.(weight|bias)"
    r"|(attn_[qk]_norm|post_attention_norm|post_ffw_norm|ffn_gate_inp|ffn_gate_inp_shexp)\.weight"
    r"|ffn_(gate|up|down)_(exps|shexp)\.weight|(rope_freqs|rope_factors_(long|short)|attn_rot_embd)\.weight"
)
"""Tensors of a layer that are understood. A layer with any other is left as it is."""


@dataclass(frozen=True)
class FoldPlan:
    """The folds of a model, and why there are not more."""

    folds: tuple[Fold, ...]
    reason: str | None = None
    """What is left out; None: nothing."""


def plan_folds(header: GGUFHeader) -> FoldPlan:
    """Find the folds that are exact, in the layers' order.

    Raises:
        InvalidModelFile: a number of the model is missing or impossible.
    """
    if header.architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        return FoldPlan((), f"Nothing is folded: {printable(header.architecture)} is none of {known}.")
    shape = ModelShape.from_header(header)
    layers = [_Layer(header, shape, index) for index in range(shape.n_layer)]
    strange = [name for layer in layers for name in layer.unknown]
    reason = None
    if strange:
        reason = f"Layers with tensors that are not known, such as {printable(strange[0])}, are not folded."
    folds = tuple(fold for layer in layers if not layer.unknown for fold in layer.folds())
    return FoldPlan(folds, reason)


class _Layer:
    """Finds the folds of one layer."""

    def __init__(self, header: GGUFHeader, shape: ModelShape, index: int) -> None:
        self._path = header.path
        self._place = f"blk.{index}."
        self._shape = shape
        self._index = index
        self._tensors: Mapping[str, TensorInfo] = {
            tensor.name.removeprefix(self._place): tensor for tensor in header.tensors if layer_of(tensor.name) == index
        }
        self.unknown = [tensor.name for name, tensor in self._tensors.items() if not _KNOWN.fullmatch(name)]

    def folds(self) -> Iterator[Fold]:
        yield from self._norm("attn_norm", ("attn_q", "attn_k", "attn_v", "attn_qkv"))
        yield from self._values()
        yield from self._norm(
            "ffn_norm",
            ("ffn_gate_inp", "ffn_gate", "ffn_up", "ffn_gate_exps", "ffn_up_exps",
             "ffn_gate_inp_shexp", "ffn_gate_shexp", "ffn_up_shexp"),
        )  # fmt: skip
        for kind in ("", "_exps", "_shexp"):
            yield from self._up(kind)

    def _norm(self, norm: str, readers: tuple[str, ...]) -> Iterator[Fold]:
        found = [reader for reader in readers if f"{reader}.weight" in self._tensors]
        if f"{norm}.weight" in self._tensors and found:
            every = np.arange(self._shape.n_embd)
            yield self._fold(norm, [self._part(f"{reader}.weight", every) for reader in found],
                             [self._part(name, every) for name in self._both(norm)], len(every))  # fmt: skip

    def _values(self) -> Iterator[Fold]:
        """V makes a channel for each KV head and dimension; the heads of queries that share it follow each other."""
        n_head, n_kv = self._shape.n_head[self._index], self._shape.n_head_kv[self._index]
        dim = self._shape.head_dim_v
        made_by = "attn_v" if "attn_v.weight" in self._tensors else "attn_qkv"
        if not n_kv or not {f"{made_by}.weight", "attn_output.weight"} <= self._tensors.keys():
            return
        channels = np.arange(n_kv * dim)
        columns = np.repeat(channels.reshape(n_kv, dim), n_head // n_kv, axis=0).reshape(-1)
        yield self._fold("attn_v", [self._part("attn_output.weight", columns)],
                         self._made(made_by, channels), len(channels))  # fmt: skip

    def _up(self, kind: str) -> Iterator[Fold]:
        up, down = self._tensors.get(f"ffn_up{kind}.weight"), self._tensors.get(f"ffn_down{kind}.weight")
        is_fused = self._shape.architecture in _FUSED_GATE and not kind
        if up is None or down is None or not (is_fused or f"ffn_gate{kind}.weight" in self._tensors):
            return
        channels = np.arange(down.shape[0])
        n_sets = down.n_params // (down.shape[0] * down.shape[1])
        yield self._fold(f"ffn_up{kind}", [self._part(f"ffn_down{kind}.weight", channels)],
                         self._made(f"ffn_up{kind}", channels), len(channels), n_sets)  # fmt: skip

    def _made(self, name: str, channels: Channels) -> list[Part]:
        """Return the rows that make some channels, and their biases: the last ones of a fused tensor."""
        n_others = max(self._tensors[f"{name}.weight"].shape[1] - len(channels), 0)
        own = np.concatenate([np.full(n_others, NO_CHANNEL, dtype=np.intp), channels])
        return [self._part(each, own, by_rows=each.endswith(".weight")) for each in self._both(name)]

    def _both(self, name: str) -> list[str]:
        return [each for each in (f"{name}.weight", f"{name}.bias") if each in self._tensors]

    def _part(self, name: str, channels: Channels, *, by_rows: bool = False) -> Part:
        shape = self._tensors[name].shape
        if shape[int(by_rows)] != len(channels):
            found = f"{shape[int(by_rows)]:,} {'rows' if by_rows else 'columns'} where {len(channels):,} are due"
            raise invalid(self._path, f"tensor {quoted(self._place + name)} has {found}")
        return Part(self._place + name, channels, by_rows)

    def _fold(self, name: str, readers: list[Part], writers: list[Part], n_channels: int, n_sets: int = 1) -> Fold:
        return Fold(self._place + name, tuple(readers), tuple(writers), n_channels, n_sets)
