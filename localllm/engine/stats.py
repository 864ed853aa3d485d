"""What the engine says of itself."""

from __future__ import annotations

import msgspec


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
    n_adapter_switches: int
    """Steps that were computed with other LoRA adapters than the one before."""
    n_steps: int
    n_tokens_decoded: int
    n_tokens_prefilled: int
    n_tokens_cached: int
    n_tokens_evicted: int
    """Tokens that left the contexts of sequences that slide."""
    decode_s: float
    """Seconds inside llama_decode."""
    busy_s: float
    """Seconds inside steps, decode_s included; the rest is the engine's own share."""
    n_tokens_drafted: int = 0
    """Proposed by speculation."""
    n_tokens_accepted: int = 0
    """... and chosen by the model; they are among the decoded."""
    n_draft_cells_used: int = 0
    """Cells of the draft model's context; they wait for a sequence that starts alike."""
    n_inputs_embedded: int = 0
    """Texts that became vectors or scores."""
    n_tokens_embedded: int = 0

    @classmethod
    def zero(cls) -> EngineStats:
        """Return the counts of an engine that has done nothing."""
        return cls(**dict.fromkeys(cls.__struct_fields__, 0))
