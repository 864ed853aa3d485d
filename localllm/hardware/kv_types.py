"""The number formats that llama.cpp can keep keys and values in.

This module knows sizes and what each format asks of a model; it does not know how good the formats are.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from localllm.errors import RequestError


@dataclass(frozen=True)
class KVType:
    """One format: `block_bytes` bytes hold `block_size` values."""

    name: str
    block_size: int
    block_bytes: int

    @property
    def is_quantized(self) -> bool:
        return self.block_size > 1

    def row_bytes(self, n_values: int) -> int:
        """Return the bytes of `n_values` consecutive values; a multiple of `block_size`."""
        return -(-n_values // self.block_size) * self.block_bytes


KV_TYPES: dict[str, KVType] = {
    kind.name: kind
    for kind in (
        KVType("f32", 1, 4),
        KVType("f16", 1, 2),
        KVType("bf16", 1, 2),
        KVType("q8_0", 32, 34),
        KVType("q5_1", 32, 24),
        KVType("q5_0", 32, 22),
        KVType("q4_1", 32, 20),
        KVType("q4_0", 32, 18),
        KVType("iq4_nl", 32, 18),
    )
}
"""Source: ggml.c, `type_traits`; the names are those of llama.cpp's --cache-type-k."""


def kv_type(name: str) -> KVType:
    """Return the format called `name`.

    Raises:
        RequestError: there is none; the hint lists those there are.
    """
    found = KV_TYPES.get(name)
    if found is None:
        near = get_close_matches(name.lower(), KV_TYPES, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise RequestError(f"No KV cache type is called {name!r}.{guess}", hint=f"Use one of: {', '.join(KV_TYPES)}.")
    return found


def check_kv_type(kind: KVType, side: Literal["K", "V"], head_dim: int, *, flash_attention: bool) -> None:
    """Check that `kind` can hold heads of `head_dim` values.

    Raises:
        RequestError: a head would end inside a block, or V is quantized and there is no flash attention.
            llama.cpp refuses both with no more than a log line.
    """
    if not kind.is_quantized:
        return
    if head_dim % kind.block_size:
        raise RequestError(
            f"{side} cannot be kept as {kind.name}: its blocks hold {kind.block_size} values, "
            f"and this model's heads have {head_dim}.",
            hint="Use f16, bf16 or f32.",
        )
    if side == "V" and not flash_attention:
        raise RequestError(
            f"V cannot be kept as {kind.name}: that needs flash attention, which this model cannot use.",
            hint="Use f16, bf16 or f32 for V; K may still be quantized.",
        )
