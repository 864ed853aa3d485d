"""Counting what the engine does."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.engine.cells import CellPool
from localllm.engine.prefix_cache import PrefixCache
from localllm.engine.room import Room
from localllm.engine.runner import Runner
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.speculation.draft_model import DraftModel
from localllm.engine.stats import EngineStats
from localllm.llama import SamplerChain


@dataclass(slots=True)
class Totals:
    """Running totals, written by the engine's thread only."""

    n_requests: int = 0
    n_finished: int = 0
    n_cancelled: int = 0
    n_steps: int = 0
    n_tokens_decoded: int = 0
    n_tokens_drafted: int = 0
    n_tokens_accepted: int = 0
    n_tokens_prefilled: int = 0
    n_tokens_cached: int = 0
    n_cells_used_max: int = 0
    decode_s: float = 0.0
    busy_s: float = 0.0
    n_adapter_switches: int = 0
    clear_cache_requested: bool = False

    def count_step(self, plan: StepPlan, runner: Runner, *, n_accepted: int, n_cells_used: int, busy_s: float) -> None:
        """Count a step that `runner` has just run."""
        self.n_steps += 1
        self.n_adapter_switches += runner.has_switched
        self.n_tokens_decoded += len(plan.streams) + n_accepted
        self.n_tokens_drafted += plan.n_drafted
        self.n_tokens_accepted += n_accepted
        self.n_tokens_prefilled += plan.n_chunk
        self.n_cells_used_max = max(self.n_cells_used_max, n_cells_used)
        self.decode_s += runner.decode_s
        self.busy_s += busy_s


@dataclass(frozen=True, slots=True)
class Counters:
    """Where the engine's numbers are kept; they may be read on any thread."""

    totals: Totals
    scheduler: Scheduler
    pool: CellPool
    cache: PrefixCache
    room: Room
    draft_model: DraftModel | None = None

    def snapshot(self, n_queued: int) -> EngineStats:
        """Return the numbers of now.

        Args:
            n_queued: requests that the engine has not looked at yet; they count as waiting.
        """
        totals, pool, scheduler = self.totals, self.pool, self.scheduler
        return EngineStats(
            n_running=len(scheduler.running),
            n_waiting=len(scheduler.waiting) + n_queued,
            n_cells=pool.n_cells,
            n_cells_used=pool.n_used,
            n_cells_used_max=totals.n_cells_used_max,
            n_cells_idle=pool.n_idle,
            n_cached_prefixes=len(self.cache),
            host_cache_bytes=self.cache.host_bytes,
            n_sequence_ids_used=pool.n_ids_used,
            n_samplers=SamplerChain.n_alive,
            n_requests=totals.n_requests,
            n_finished=totals.n_finished,
            n_cancelled=totals.n_cancelled,
            n_preemptions=self.room.n_preemptions,
            n_adapter_switches=totals.n_adapter_switches,
            n_steps=totals.n_steps,
            n_tokens_decoded=totals.n_tokens_decoded,
            n_tokens_drafted=totals.n_tokens_drafted,
            n_tokens_accepted=totals.n_tokens_accepted,
            n_tokens_prefilled=totals.n_tokens_prefilled,
            n_tokens_cached=totals.n_tokens_cached,
            n_tokens_evicted=self.room.n_tokens_evicted,
            n_draft_cells_used=0 if self.draft_model is None else self.draft_model.n_cells_used,
            decode_s=totals.decode_s,
            busy_s=totals.busy_s,
        )
