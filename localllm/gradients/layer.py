"""Putting a layer together from the tensors that the file has of it."""

from __future__ import annotations

from localllm.gradients.attention import SelfAttention
from localllm.gradients.feed_forward import FeedForward
from localllm.gradients.graph import Graph, unsupported
from localllm.gradients.pieces import Chain, Linear, Observe, Piece, Projections, Residual, RmsNorm
from localllm.gradients.rotation import Rope
from localllm.gradients.tensors import TensorReader

_WITH_BIAS = frozenset({"attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"})
_NORMS = frozenset({"attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"})
KNOWN = frozenset({f"{name}.weight" for name in _WITH_BIAS | _NORMS} | {f"{name}.bias" for name in _WITH_BIAS})
"""What the tensors of a layer may be called behind "blk.0."."""


class LayerBuilder:
    """Reads one layer.

    Args:
        reader: of the model's tensors.
        graph: of the model.
        index: of the layer.
        n_ctx: tokens of a chunk.
        observe: hears of the linear layers.
    """

    def __init__(self, reader: TensorReader, graph: Graph, index: int, n_ctx: int, observe: Observe) -> None:
        self._reader, self._graph, self._n_ctx, self._observe = reader, graph, n_ctx, observe
        self._layer = graph.layers[index]
        self._prefix = f"blk.{index}."

    def build(self) -> Piece:
        """Return the layer, a function of one chunk's [n_tokens, n_embd]."""
        return Chain(
            (
                self._block("attn_norm", self._attention(), "post_attention_norm"),
                self._block("ffn_norm", self._feed_forward(), "post_ffw_norm"),
            )
        )

    def _block(self, norm: str, inner: Piece, post_norm: str) -> Residual:
        return Residual(Chain((self._norm(norm), inner, *self._optional_norm(post_norm))))

    def _attention(self) -> SelfAttention:
        shape = self._layer.attention
        widths = [n * shape.head_dim for n in (shape.n_head, shape.n_head_kv, shape.n_head_kv)]
        rotation = self._layer.rotation
        rope: tuple[Piece, ...] = () if rotation is None else (Rope(rotation, self._n_ctx, self._reader.dtype),)
        return SelfAttention(
            shape,
            self._projections(("attn_q", "attn_k", "attn_v"), "attn_qkv", widths),
            Chain((*self._optional_norm("attn_q_norm"), *rope)),
            Chain((*self._optional_norm("attn_k_norm"), *rope)),
            self._linear("attn_output"),
        )

    def _feed_forward(self) -> FeedForward:
        n_ff = self._reader.info(f"{self._prefix}ffn_down.weight").shape[0]
        projections = self._projections(("ffn_gate", "ffn_up"), "ffn_up", [n_ff, n_ff])
        return FeedForward(projections, self._graph.activation, self._linear("ffn_down"))

    def _projections(self, names: tuple[str, ...], fused: str, widths: list[int]) -> Projections:
        """Read projections of one input: each for itself where the file has the first, else fused into one."""
        if f"{self._prefix}{names[0]}.weight" in self._reader:
            return Projections([(self._linear(name), (width,)) for name, width in zip(names, widths, strict=True)])
        return Projections([(self._linear(fused), tuple(widths))])

    def _linear(self, name: str) -> Linear:
        weight, bias = f"{self._prefix}{name}.weight", f"{self._prefix}{name}.bias"
        return Linear(
            weight,
            self._reader.read(weight),
            self._reader.read(bias) if bias in self._reader else None,
            self._observe,
        )

    def _norm(self, name: str) -> RmsNorm:
        return RmsNorm(self._reader.read(f"{self._prefix}{name}.weight"), self._graph.norm_eps)

    def _optional_norm(self, name: str) -> tuple[Piece, ...]:
        return (self._norm(name),) if f"{self._prefix}{name}.weight" in self._reader else ()


def check_tensors(reader: TensorReader, outside: frozenset[str]) -> None:
    """Check that no tensor would be left out.

    Args:
        reader: of the model's tensors.
        outside: names of those outside the layers.

    Raises:
        UnsupportedModel: there is one that is not known here.
    """
    for tensor in reader.header.tensors:
        inside = tensor.name.startswith("blk.")
        name = tensor.name.split(".", 2)[-1] if inside else tensor.name
        lone_bias = name.endswith(".bias") and tensor.name.replace(".bias", ".weight") not in reader
        if name not in (KNOWN if inside else outside) or lone_bias:
            raise unsupported(reader.header, tensor.name)
