"""Counting what the engine does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from localllm.engine.scheduler import StepPlan


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the engine; counts of now, and totals since the load."""

    n_running: int
    n_waiting: int
    n_cells: int
    n_cells_used: int
    n_cells_used_max: int
    """The highest count after any step."""
    n_cells_idle: int
    """Used cells that only the prefix cache holds."""
    n_cached_prefixes: int
    host_cache_bytes: int
    n_sequence_ids_used: int
    n_samplers: int
    n_requests: int
    n_finished: int
    n_cancelled: int
    n_preemptions: int
    n_steps: int
    n_tokens_decoded: int
    n_tokens_prefilled: int
    n_tokens_cached: int
    decode_s: float
    """Seconds inside llama_decode."""
    busy_s: float
    """Seconds inside steps, decode_s included; the rest is the engine's own share."""
    n_inputs_embedded: int = 0
    """Texts that became vectors or scores."""
    n_tokens_embedded: int = 0

    @classmethod
    def zero(cls) -> EngineStats:
        """Return the counts of an engine that has done nothing."""
        return cls(**dict.fromkeys(cls.__struct_fields__, 0))


@dataclass(slots=True)
class Totals:
    """Running totals, written by the engine's thread only."""

    n_requests: int = 0
    n_finished: int = 0
    n_cancelled: int = 0
    n_steps: int = 0
    n_tokens_decoded: int = 0
    n_tokens_prefilled: int = 0
    n_tokens_cached: int = 0
    n_cells_used_max: int = 0
    decode_s: float = 0.0
    busy_s: float = 0.0
    clear_cache_requested: bool = False

    def count_step(self, plan: StepPlan, n_cells_used: int, decode_s: float, busy_s: float) -> None:
        self.n_steps += 1
        self.n_tokens_decoded += len(plan.streams)
        self.n_tokens_prefilled += plan.n_chunk
        self.n_cells_used_max = max(self.n_cells_used_max, n_cells_used)
        self.decode_s += decode_s
        self.busy_s += busy_s
