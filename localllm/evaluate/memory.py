"""Whether the contexts of an evaluation fit this machine's memory, all at once as they are."""

from __future__ import annotations

from localllm.errors import NotEnoughMemory
from localllm.evaluate.lane import N_UBATCH, n_block_rows
from localllm.hardware.estimate import (
    ModelShape,
    compute_buffer_bytes,
    kv_layer_bytes,
    output_buffer_bytes,
    uses_flash_attention,
)
from localllm.hardware.kv_types import kv_type
from localllm.hardware.sizes import format_bytes


def kv_bytes(shape: ModelShape, types: tuple[str, str], n_ctx: int) -> int:
    """Return the size of a KV cache of `n_ctx` tokens with these types of K and V."""
    return sum(kv_layer_bytes(shape, kv_type(types[0]), kv_type(types[1]), n_ctx))


def lane_bytes(shape: ModelShape, types: tuple[str, str], n_ctx: int, *, flash_attention: bool | None = None) -> int:
    """Return an upper bound of what one context of an evaluation takes, without the weights.

    Args:
        shape: of the model.
        types: of K and V.
        n_ctx: tokens of a chunk.
        flash_attention: None is as llama.cpp decides.
    """
    n_rows, n_ubatch = n_block_rows(shape.n_vocab), min(n_ctx, N_UBATCH)
    if flash_attention is None:
        flash_attention = uses_flash_attention(shape)
    compute = compute_buffer_bytes(shape, n_ctx, n_ubatch, n_outputs=n_rows, flash_attention=flash_attention)
    return kv_bytes(shape, types, n_ctx) + compute + output_buffer_bytes(shape, n_rows)


def check_memory(need_bytes: int, n_contexts: int, free_bytes: int) -> None:
    """Check that weights and contexts, `need_bytes` together, fit in the free RAM.

    Raises:
        NotEnoughMemory: they do not.
    """
    if need_bytes > free_bytes:
        raise NotEnoughMemory(
            f"Needs {format_bytes(need_bytes)} for {n_contexts} contexts at once, {format_bytes(free_bytes)} free.",
            hint="Compare fewer at once, or use a smaller --n-ctx.",
        )
