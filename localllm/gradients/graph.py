"""What a model computes, read from its header; what has no derivatives here is refused by name.

Source: src/llama-model.cpp of the pinned llama.cpp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from localllm.errors import UnsupportedModel
from localllm.gguf import ArrayRef, GGUFHeader, ModelShape, printable
from localllm.gguf.hparams import Hparams
from localllm.gradients.attention import AttentionShape
from localllm.gradients.families import FAMILIES, Family, Windows
from localllm.gradients.feed_forward import Activation
from localllm.gradients.rotation import Rotation
from localllm.gradients.tensors import TensorReader

_MAX_WINDOW = 1 << 31
_LONG, _SHORT, _LLAMA3 = (f"rope_{name}.weight" for name in ("factors_long", "factors_short", "freqs"))


@dataclass(frozen=True)
class LayerGraph:
    """What one layer computes."""

    attention: AttentionShape
    rotation: Rotation | None
    """None: no RoPE in this layer."""


@dataclass(frozen=True)
class Graph:
    """What the model computes."""

    n_embd: int
    norm_eps: float
    activation: Activation
    embedding_scale: float
    logit_cap: float
    """Logits z become cap · tanh(z / cap); 0: they stay."""
    layers: tuple[LayerGraph, ...]


def read_graph(reader: TensorReader, n_ctx: int) -> Graph:
    """Read what a model computes.

    Args:
        reader: of its tensors.
        n_ctx: tokens of a chunk; Phi's RoPE depends on it.

    Raises:
        UnsupportedModel: its architecture, or something in it, has no derivatives here.
        InvalidModelFile: a number is missing or impossible.
    """
    header = reader.header
    shape, keys = ModelShape.from_header(header), Hparams(header)
    family = FAMILIES.get(header.architecture)
    if family is None:
        raise unsupported(header, f"the architecture {printable(header.architecture)}")
    _check_shape(header, shape)
    return Graph(
        n_embd=shape.n_embd,
        norm_eps=keys.real("attention.layer_norm_rms_epsilon"),
        activation=family.activation,
        embedding_scale=math.sqrt(shape.n_embd) if family.scales_embedding else 1.0,
        logit_cap=_cap(keys, "final_logit_softcapping", family.logit_cap),
        layers=_layers(reader, keys, family, shape, n_ctx),
    )


def _layers(
    reader: TensorReader, keys: Hparams, family: Family, shape: ModelShape, n_ctx: int
) -> tuple[LayerGraph, ...]:
    wide = family.n_layer_wide == shape.n_layer
    everywhere = LayerGraph(
        AttentionShape(
            n_head=shape.n_head[0],
            n_head_kv=shape.n_head_kv[0],
            head_dim=shape.head_dim_k,
            scale=1 / math.sqrt(shape.n_embd // shape.n_head[0] if wide else shape.head_dim_k),
            cap=_cap(keys, "attn_logit_softcapping", family.score_cap),
        ),
        _rotation(reader, keys, family, shape, n_ctx),
    )
    n_window, slides = _windows(keys, family.windows, shape.n_layer)
    sliding = _sliding(everywhere, keys, family.windows, n_window)
    layers = (sliding if slide else everywhere for slide in slides)
    return tuple(
        replace(layer, rotation=None) if family.rope_skips and (index + 1) % family.rope_skips == 0 else layer
        for index, layer in enumerate(layers)
    )


def _rotation(reader: TensorReader, keys: Hparams, family: Family, shape: ModelShape, n_ctx: int) -> Rotation:
    kind = reader.header.metadata.get(f"{shape.architecture}.rope.scaling.type", "linear")
    if kind not in ("none", "linear", "longrope"):
        raise unsupported(reader.header, f"the RoPE scaling {printable(str(kind))}")
    factor = keys.real("rope.scaling.factor", keys.real("rope.scale_linear", 0.0))
    n_ctx_original = keys.number("rope.scaling.original_context_length", 0, 1 << 32, shape.n_ctx_train)
    names = (_LLAMA3, _LONG if n_ctx > n_ctx_original else _SHORT)
    factors = next((reader.read(name) for name in names if name in reader), ())
    return Rotation(
        n_rot=keys.number("rope.dimension_count", 2, shape.head_dim_k, shape.head_dim_k),
        base=keys.real("rope.freq_base", 10000.0),
        turns_neighbours=family.turns_neighbours,
        speed=1 / factor if factor and kind != "none" else 1.0,
        factors=tuple(float(value) for value in factors),
        magnitude=keys.real("rope.scaling.attn_factor", 1.0),
    )


def _windows(keys: Hparams, windows: Windows | None, n_layer: int) -> tuple[int, tuple[bool, ...]]:
    """Return how many tokens a window has, and which layers have one."""
    n_window = keys.number("attention.sliding_window", 0, _MAX_WINDOW, windows.n_window) if windows else 0
    if windows is None or not n_window:
        return 0, (False,) * n_layer
    key = "attention.sliding_window_pattern"
    stored = keys.header.metadata.get(f"{keys.header.architecture}.{key}")
    if isinstance(stored, ArrayRef):
        return n_window, keys.flags(key, n_layer) or (False,) * n_layer
    pattern = keys.number(key, 0, _MAX_WINDOW, windows.pattern)
    return n_window, tuple(pattern == 0 or layer % pattern < pattern - 1 for layer in range(n_layer))


def _sliding(everywhere: LayerGraph, keys: Hparams, windows: Windows | None, n_window: int) -> LayerGraph:
    """Return what a layer with a window computes."""
    if windows is None or everywhere.rotation is None:
        return everywhere
    base = keys.real("rope.freq_base_swa", windows.rope_base or everywhere.rotation.base)
    speed = everywhere.rotation.speed if windows.rope_is_scaled else 1.0
    return LayerGraph(
        replace(everywhere.attention, n_window=n_window), replace(everywhere.rotation, base=base, speed=speed)
    )


def _cap(keys: Hparams, key: str, default: float | None) -> float:
    return 0.0 if default is None else keys.real(key, default)


def _check_shape(header: GGUFHeader, shape: ModelShape) -> None:
    if shape.n_expert:
        raise unsupported(header, "experts")
    if shape.is_encoder:
        raise unsupported(header, "attention that looks ahead")
    if shape.head_dim_k != shape.head_dim_v or len({*zip(shape.n_head, shape.n_head_kv, strict=True)}) > 1:
        raise unsupported(header, "heads that are not all alike")
    if not shape.n_head[0] or not shape.n_head_kv[0] or shape.n_head[0] % shape.n_head_kv[0]:
        raise unsupported(header, f"{shape.n_head[0]} query heads for {shape.n_head_kv[0]} key heads")


def unsupported(header: GGUFHeader, what: str) -> UnsupportedModel:
    """Return the error for a model in which something has no derivatives here."""
    known = ", ".join(sorted(FAMILIES))
    return UnsupportedModel(
        f"{printable(header.path.name, 200)}: gradients of {what} are not known here; of {known} they are.",
        hint="Calibrate without --kl-aware.",
    )
