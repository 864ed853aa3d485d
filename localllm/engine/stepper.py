"""One step of the engine: admit, make room, slide, decode, choose, say what happened."""

from __future__ import annotations

import time
from collections.abc import Callable

from localllm.engine.answers import Answers
from localllm.engine.cells import CellPool
from localllm.engine.counters import Totals
from localllm.engine.long_prompts import LongPrompts
from localllm.engine.prefix_cache import PrefixCache
from localllm.engine.room import Room
from localllm.engine.runner import Runner
from localllm.engine.scheduler import Scheduler, StepPlan
from localllm.engine.speculation.speculator import Speculator
from localllm.errors import LocalLLMError
from localllm.llama import Context


class Stepper:
    """Carries out steps with the parts of an engine.

    Args:
        context: that evaluates.
        n_ctx: places that one sequence may take.
        scheduler: knows who is next, and what a step costs.
        room: finds cells.
        pool: the cells.
        cache: of prefixes.
        runner: turns a plan into a batch, and runs it.
        speculator: adds drafts to a plan.
        answers: chooses tokens, and says so.
        long_prompts: computes a long prompt aside.
        totals: counts.
        listen: takes in what was asked meanwhile.
        can_begin_anew: a step that was broken off can be begun again.
    """

    def __init__(
        self,
        context: Context,
        n_ctx: int,
        *,
        scheduler: Scheduler,
        room: Room,
        pool: CellPool,
        cache: PrefixCache,
        runner: Runner,
        speculator: Speculator,
        answers: Answers,
        long_prompts: LongPrompts,
        totals: Totals,
        listen: Callable[[], object],
        can_begin_anew: bool,
    ) -> None:
        self._context = context
        self._n_ctx = n_ctx
        self._scheduler = scheduler
        self._room = room
        self._pool = pool
        self._cache = cache
        self._runner = runner
        self._speculator = speculator
        self._answers = answers
        self._long_prompts = long_prompts
        self._totals = totals
        self._listen = listen
        self._can_begin_anew = can_begin_anew
        self._lost_s = 0.0

    def step(self) -> None:
        """Admit, make room, slide, decode, choose, report."""
        started = time.perf_counter()
        if self._totals.clear_cache_requested:
            self._totals.clear_cache_requested = False
            self._cache.clear()
            self._speculator.clear()
        self._totals.n_tokens_cached += self._room.admit()
        plan = self._room.plan_step()
        if plan is None:
            self._answers.end_running()
            return
        if plan.n_tokens == 0:
            return
        if self._long_prompts.is_better_aside(plan):
            n_computed = self._long_prompts.prefill(plan.chunks[0][0])
            self._totals.n_tokens_prefilled += n_computed
            return
        plan = self._with_drafts(plan)
        try:
            has_slid = self._room.slide(plan)
            outputs = self._runner.run(plan, self._young_s(plan), may_abort=not has_slid)
        except LocalLLMError as error:
            self._answers.fail(plan.sequences, error)
            return
        if outputs is None:
            self._retry(plan)
            return
        self._lost_s = 0.0
        self._answers.report_prefill(plan)
        accepted = self._answers.choose(plan, outputs)
        busy_s = time.perf_counter() - started
        if self._scheduler.aside is None and not (self._runner.has_switched or has_slid):
            self._learn(plan, accepted, busy_s)
        n_accepted, n_used = sum(accepted.values()), self._pool.n_used
        self._totals.count_step(plan, self._runner, n_accepted=n_accepted, n_cells_used=n_used, busy_s=busy_s)

    def _with_drafts(self, plan: StepPlan) -> StepPlan:
        if self._scheduler.aside is not None:
            return plan
        n_free = min(self._pool.n_free, self._context.n_batch) - len(plan.streams)
        return self._speculator.draft(plan, self._scheduler.cost, n_free=n_free, n_ctx=self._n_ctx)

    def _learn(self, plan: StepPlan, accepted: dict[int, int], busy_s: float) -> None:
        cost = self._scheduler.cost
        if not plan.chunks:
            self._speculator.observe(plan, accepted, cost, busy_s)
        if not plan.is_speculative:
            cost.observe(len(plan.streams), plan.n_chunk, busy_s - self._speculator.drafting_s)

    def _young_s(self, plan: StepPlan) -> float:
        """How long newcomers may have this step begun anew: what they have cost so far counts."""
        return self._scheduler.young_s(plan) - self._lost_s if self._can_begin_anew else 0.0

    def _retry(self, plan: StepPlan) -> None:
        """After a run that changed nothing: it was aborted, or llama.cpp had no room (sliding-window caches)."""
        self._listen()
        if self._runner.was_aborted:
            self._lost_s += self._runner.decode_s
        elif plan.is_speculative:
            self._speculator.hold()
        elif any(s in self._scheduler.running for s in plan.sequences) and not self._room.relieve():
            self._answers.end_running()
