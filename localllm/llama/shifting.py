"""What decides whether a context's cells can be moved to other positions, read from the model and the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localllm.llama.context import Context
from localllm.llama.model import Model

RopeKind = Literal["none", "plain", "multi"]
"""No rotation at all, by one position, or by several (M-RoPE)."""
_ROPE_NONE, _ROPE_MULTI_BIT = -1, 8
_QUANTIZED = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"})


@dataclass(frozen=True, kw_only=True)
class ShiftFacts:
    """The facts; what follows from them is for others to say."""

    architecture: str
    can_roll_back: bool
    """A sequence can be cut at any position."""
    memory_can_shift: bool
    """What llama.cpp says of itself."""
    rope: RopeKind = "plain"
    n_layer: int = 0
    kv_type_k: str = "f16"
    head_dim_k: int = 64
    """Values of a key of one head."""
    head_dim_k_swa: int = 64
    """... in layers with a sliding window."""
    n_rot: int = 64
    """How many of them are rotated."""
    scales_keys: bool = False
    """The rotation also multiplies by a factor that is not 1: YaRN, LongRoPE."""
    has_indexer: bool = False
    """A second cache finds the keys to attend to."""

    @property
    def is_quantized(self) -> bool:
        """Whether keys are stored in blocks of integers."""
        return self.kv_type_k in _QUANTIZED


def shift_facts(model: Model, context: Context, kv_type_k: str) -> ShiftFacts:
    """Read the facts of a context of a model, whose keys are stored as `kv_type_k`."""
    architecture = model.metadata("general.architecture") or ""
    head_dim_k = _integer(model, f"{architecture}.attention.key_length", model.n_embd // max(model.n_head, 1))
    return ShiftFacts(
        architecture=architecture,
        can_roll_back=model.can_roll_back,
        memory_can_shift=context.has_memory and context.memory.can_shift,
        rope=_rope_kind(model.rope_type),
        n_layer=model.n_layer,
        kv_type_k=kv_type_k,
        head_dim_k=head_dim_k,
        head_dim_k_swa=_integer(model, f"{architecture}.attention.key_length_swa", head_dim_k),
        n_rot=_integer(model, f"{architecture}.rope.dimension_count", head_dim_k),
        scales_keys=_scales_keys(model, f"{architecture}.rope.scaling"),
        has_indexer=any(key.startswith(f"{architecture}.attention.indexer.") for key, _ in model.metadata_items()),
    )


def _rope_kind(rope_type: int) -> RopeKind:
    if rope_type == _ROPE_NONE:
        return "none"
    return "multi" if rope_type & _ROPE_MULTI_BIT else "plain"


def _scales_keys(model: Model, prefix: str) -> bool:
    """Whether `ggml_rope_ext` is called with a magnitude: it multiplies by it again each time a key is moved."""
    is_yarn = model.metadata(f"{prefix}.type") == "yarn" and _number(model, f"{prefix}.factor", 1.0) != 1.0
    return is_yarn or _number(model, f"{prefix}.attn_factor", 1.0) != 1.0


def _integer(model: Model, key: str, default: int) -> int:
    return int(_number(model, key, float(default)))


def _number(model: Model, key: str, default: float) -> float:
    text = model.metadata(key)
    try:
        return default if text is None else float(text)
    except ValueError:
        return default
