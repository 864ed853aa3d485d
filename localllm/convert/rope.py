"""Rotary position embeddings: how a checkpoint says that its frequencies are scaled, and how a GGUF file does.

Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters`, which may hold one set for each kind of
layer.

Source: transformers, modeling_rope_utils.py (formulas); Peng et al. 2023 (YaRN); Ding et al. 2024 (LongRoPE).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from localllm.convert.config import Config
from localllm.convert.tensors import OutputTensor, constant
from localllm.errors import InvalidCheckpoint, UnsupportedModel

_OLD_NAMES = {"su": "longrope", "none": "default"}
_SCALINGS = {
    "linear": gguf.RopeScalingType.LINEAR,
    "yarn": gguf.RopeScalingType.YARN,
    "longrope": gguf.RopeScalingType.LONGROPE,
}


@dataclass(frozen=True)
class Rope:
    """The rotation of one kind of layers."""

    base: float
    """theta"""
    kind: str
    """"default", "linear", "llama3", "yarn" or "longrope"."""
    dim: int
    """Values of a head that are rotated."""
    n_ctx: int
    """Tokens of context that the checkpoint names."""
    n_ctx_original: int
    """Tokens of context before the scaling."""
    scaling: Config

    @property
    def factor(self) -> float:
        if self.kind == "longrope":
            return self.n_ctx / self.n_ctx_original
        return self.scaling.number("factor")

    @property
    def attention_factor(self) -> float:
        """By which longrope multiplies sines and cosines."""
        if self.factor <= 1:
            return self.scaling.number("attention_factor", default=1.0)
        default = math.sqrt(1 + math.log(self.factor) / math.log(self.n_ctx_original))
        return self.scaling.number("attention_factor", default=default)

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        """Write base, width and scaling."""
        writer.add_rope_dimension_count(self.dim)
        writer.add_rope_freq_base(self.base)
        if self.kind == "longrope":
            writer.add_rope_scaling_orig_ctx_len(self.n_ctx_original)
            writer.add_rope_scaling_attn_factors(self.attention_factor)
        elif self.kind in _SCALINGS:
            writer.add_rope_scaling_type(_SCALINGS[self.kind])
            writer.add_rope_scaling_factor(self.factor)
        if self.kind == "yarn":
            self._add_yarn(writer)

    def _add_yarn(self, writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_orig_ctx_len(self.n_ctx_original)
        for key, default, add in (
            ("beta_fast", 32.0, writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", 1.0, writer.add_rope_scaling_yarn_beta_slow),
        ):
            if (value := self.scaling.number(key, default=default)) != default:
                add(value)

    def tensors(self) -> Iterator[OutputTensor]:
        """Yield the tensors by which each frequency is divided, of shape [dim / 2]."""
        if self.kind == "llama3":
            yield constant("rope_freqs.weight", np.array(self._llama3_factors(), np.float32))
        elif self.kind == "longrope":
            yield constant("rope_factors_long.weight", self._listed("long_factor"))
            yield constant("rope_factors_short.weight", self._listed("short_factor"))

    def _llama3_factors(self) -> list[float]:
        """Long wavelengths are stretched by `factor`, short ones not at all, and those in between by a mix."""
        low, high = self.scaling.number("low_freq_factor"), self.scaling.number("high_freq_factor")
        factors = []
        for i in range(0, self.dim, 2):
            turns = self.n_ctx_original / (2 * math.pi * self.base ** (i / self.dim))
            share = min(1.0, max(0.0, (turns - low) / (high - low)))
            factors.append(1 / ((1 - share) / self.factor + share))
        return factors

    def _listed(self, key: str) -> Any:
        values = self.scaling.sequence(key) or []
        if len(values) != self.dim // 2 or not all(type(value) in (int, float) for value in values):
            raise InvalidCheckpoint(
                f"config.json: {key} must be {self.dim // 2} numbers and has {len(values)}.",
                hint="Download config.json again.",
            )
        return np.array(values, np.float32)


def read_rope(
    config: Config,
    head_dim: int,
    n_ctx: int,
    kinds: Sequence[str],
    *,
    base: float = 10000.0,
    layers: str = "full_attention",
) -> Rope:
    """Return how positions are encoded.

    Args:
        config: the model's.
        head_dim: width of a head.
        n_ctx: tokens of context that the checkpoint names.
        kinds: scalings that llama.cpp computes for this architecture, besides none.
        base: theta where the checkpoint does not say.
        layers: the kind of layers, where each has its own.

    Raises:
        UnsupportedModel: the scaling is none of `kinds`, or a variant that llama.cpp does not compute.
    """
    scaling = config.section("rope_parameters", "rope_scaling")
    if isinstance(scaling.get(layers), dict):
        scaling = scaling.section(layers)
    kind = str(scaling.get("rope_type", "type") or "default")
    kind = _OLD_NAMES.get(kind, kind)
    if kind not in ("default", *kinds):
        raise UnsupportedModel(
            f"Its positions are scaled by {kind!r}; llama.cpp computes {', '.join(('default', *kinds))} "
            f"for this architecture.",
            hint="Choose a model without that scaling.",
        )
    if kind == "yarn":
        _check_yarn(scaling)
    share = scaling.number("partial_rotary_factor", default=config.number("partial_rotary_factor", default=1.0))
    original = config.count("original_max_position_embeddings", default=n_ctx)
    return Rope(
        base=scaling.number("rope_theta", default=config.number("rope_theta", default=base)),
        kind=kind,
        dim=int(head_dim * share),
        n_ctx=n_ctx,
        n_ctx_original=scaling.count("original_max_position_embeddings", default=original),
        scaling=scaling,
    )


def _check_yarn(scaling: Config) -> None:
    """llama.cpp derives the attention's temperature from the factor alone, and rounds the ramp's ends."""
    for key in ("attention_factor", "mscale", "mscale_all_dim"):
        scaling.demand(key, None)
    scaling.demand("truncate", True)
