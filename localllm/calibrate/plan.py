"""Which second moments are added up together: as many as fit in memory, the last layers first.

The first pass reads the text through all layers in any case, for the sums of squares. A later one ends behind the
last layer that it listens to, so what is left for later are the first layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localllm.calibrate.gram import moment_bytes
from localllm.calibrate.inputs import MatrixInput
from localllm.errors import NotEnoughMemory
from localllm.gguf import ModelShape
from localllm.gradients.gram import PANEL
from localllm.hardware.estimate import (
    compute_buffer_bytes,
    kv_layer_bytes,
    output_buffer_bytes,
    uses_flash_attention,
)
from localllm.hardware.kv_types import kv_type
from localllm.hardware.sizes import format_bytes
from localllm.quantize.sinks import N_SINK, feeds_sinks


@dataclass(frozen=True)
class MomentPart:
    """One H: of an input, or of what one of its experts reads."""

    source: MatrixInput
    mat: int
    n_first: int | None = None
    """Of how many tokens at the start of each chunk; None: of all."""

    @property
    def name(self) -> str:
        """What its files are called: "blk.0.attn_q", of expert 7 "blk.0.ffn_gate_exps.7", of the first four tokens
        "blk.0.attn_q.first4"."""
        stem = self.source.name.removesuffix(".weight")
        of_mat = "" if self.source.n_mats == 1 else f".{self.mat}"
        return f"{stem}{of_mat}" + ("" if self.n_first is None else f".first{self.n_first}")

    @property
    def n_bytes(self) -> int:
        """Of H on disk, without its header."""
        return 4 * self.source.n_cols**2


def parts_of(inputs: Sequence[MatrixInput]) -> list[MomentPart]:
    """Return the parts of all inputs, in the graph's order."""
    return [MomentPart(source, mat) for source in inputs for mat in range(source.n_mats)]


def sink_parts_of(inputs: Sequence[MatrixInput]) -> list[MomentPart]:
    """Return the parts of the first tokens, for keys and values alone, in the graph's order."""
    return [MomentPart(source, 0, N_SINK) for source in inputs if any(map(feeds_sinks, source.weights))]


def plan_passes(parts: Sequence[MomentPart], n_ctx: int, room_bytes: int) -> list[tuple[MomentPart, ...]]:
    """Share parts out over passes, the last layers first, each part in the graph's order.

    Args:
        parts: in the graph's order.
        n_ctx: tokens that are read of a chunk; their rows are kept until all have been.
        room_bytes: what all parts of a pass may take together.

    Raises:
        NotEnoughMemory: a single part takes more.
    """
    passes: list[tuple[MomentPart, ...]] = []
    scratch = 8 * PANEL * max((part.source.n_cols for part in parts), default=0)
    end, used = len(parts), scratch
    for start in reversed(range(len(parts))):
        source = parts[start].source
        need = moment_bytes(source.n_cols, n_ctx, source.share)
        if scratch + need > room_bytes:
            raise NotEnoughMemory(
                f"The second moments of {source.name}'s {source.n_cols:,} columns need {format_bytes(scratch + need)}; "
                f"beside the model there are {format_bytes(max(room_bytes, 0))}.",
                hint="Give more with --memory, or leave --moments out.",
            )
        if used + need > room_bytes:
            passes.append(tuple(parts[start + 1 : end]))
            end, used = start + 1, scratch
        used += need
    return [*passes, tuple(parts[:end])] if parts else []


def reader_bytes(shape: ModelShape, n_ctx: int, n_ubatch: int) -> int:
    """Return an upper bound of what the model and the context that reads with it take."""
    f16 = kv_type("f16")
    compute = compute_buffer_bytes(shape, n_ctx, n_ubatch, flash_attention=uses_flash_attention(shape))
    kv = sum(kv_layer_bytes(shape, f16, f16, n_ctx))
    return shape.weights_bytes + kv + compute + output_buffer_bytes(shape, n_ubatch)
