"""Drafts for the steps of an engine: who may have one, what they bring, and what became of them.

It stands between the scheduler's plan and the runner. It adds draft tokens to a plan, where nobody else wants the room,
and hears what was accepted; it moves no cells and calls no model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

from localllm.engine.events import Speculation
from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.drafter import Drafter
from localllm.engine.speculation.lookahead import Lookahead, LookaheadSize
from localllm.engine.speculation.lookahead_gain import LookaheadGain
from localllm.engine.speculation.lookahead_planner import FORCED_SIZES, LookaheadPlanner
from localllm.engine.speculation.ngram import GRADE_PRIORS, NgramDrafter
from localllm.hardware.types import MAX_DRAFT_TOKENS, SpecMode

if TYPE_CHECKING:
    from localllm.engine.cost import StepCost
    from localllm.engine.scheduler import StepPlan
    from localllm.engine.sequence import Sequence

MAX_SHARED_RATIO = 1.1
"""Of several streams, one's draft may make the step that much longer for the others: little where they share a CPU's
time, much where a wide batch costs what a narrow one does."""


class StreamDrafts:
    """What one sequence's speculation has learned and done."""

    __slots__ = (
        "acceptance",
        "drafter",
        "gain",
        "is_auto",
        "is_forced",
        "lookahead",
        "n_accepted",
        "n_drafted",
        "plain_s",
        "spent_s",
    )

    def __init__(self, drafter: Drafter, acceptance: Acceptance, *, is_forced: bool) -> None:
        self.drafter = drafter
        self.acceptance = acceptance
        self.is_forced = is_forced
        self.is_auto = False
        """Whether lookahead may be tried where the drafter has nothing."""
        self.lookahead = drafter if isinstance(drafter, Lookahead) else None
        """Once it was."""
        self.gain = LookaheadGain()
        self.n_drafted = 0
        self.n_accepted = 0
        self.plain_s = 0.0
        """Seconds that the steps so far would have taken without drafts."""
        self.spent_s = 0.0

    @property
    def report(self) -> Speculation:
        return Speculation(
            kind=self.drafter.kind if self.lookahead in (None, self.drafter) else f"{self.drafter.kind}+lookahead",
            drafted=self.n_drafted,
            accepted=self.n_accepted,
            speedup_est=self.plain_s / self.spent_s if self.spent_s > 0 else 1.0,
        )


class Speculator:
    """Makes the drafts of an engine's steps.

    Args:
        default: of requests that do not say.
        is_possible: whether rejected tokens can be taken out of the cache.
        n_branch_ids: sequence ids that a step has for the branches of lookahead.
        lookahead_sizes: of windows that are asked for at any price, the first that there is room for.
    """

    def __init__(
        self,
        default: SpecMode,
        *,
        is_possible: bool,
        n_branch_ids: int = 0,
        lookahead_sizes: SequenceOf[LookaheadSize] = FORCED_SIZES,
    ) -> None:
        self._default = default
        self._is_possible = is_possible
        self._controller = Controller()
        self._ngram_rates = SharedRates(GRADE_PRIORS)
        self._lookahead = LookaheadPlanner(self._controller, n_branch_ids, lookahead_sizes)
        self._is_held = False

    def enter(self, sequence: Sequence) -> None:
        """Give a new sequence its drafter, if it is to have one."""
        mode = sequence.request.spec or self._default
        if mode != "off" and self._is_possible:
            acceptance = Acceptance(self._ngram_rates)
            drafter = Lookahead() if mode == "lookahead" else NgramDrafter()
            sequence.speculation = StreamDrafts(drafter, acceptance, is_forced=mode == "ngram")
            sequence.speculation.is_auto = mode == "auto"

    def hold(self) -> None:
        """Make no drafts for the next step: there was no room for the last one's."""
        self._is_held = True

    def draft(self, plan: StepPlan, cost: StepCost, *, n_free: int, n_ctx: int) -> StepPlan:
        """Return the plan with drafts for its streams.

        Args:
            plan: without drafts. Where it has prompts, they get the time and the room.
            cost: of steps like this one without drafts.
            n_free: tokens that the step may have more, in batch and cells.
            n_ctx: tokens that a sequence may have.
        """
        candidates = [] if plan.chunks else [s for s in plan.streams if _can_draft(s)]
        is_held, self._is_held = self._is_held, False
        if not candidates or n_free <= 0 or is_held:
            return plan
        forced = [s for s in candidates if s.speculation is not None and s.speculation.is_forced]
        chosen = forced or candidates
        counts = self._choose(plan, chosen, cost, n_free, n_ctx, is_forced=bool(forced))
        drafts = {s.request_id: _propose(s, n) for s, n in zip(chosen, counts, strict=True) if n}
        plan = dataclasses.replace(plan, drafts={key: draft for key, draft in drafts.items() if draft})
        curve = self._controller.cost(len(plan.adapters), len(plan.streams))
        is_known = cost.decode_s(len(plan.streams)) > 0
        max_ratio = MAX_SHARED_RATIO if len(plan.streams) > 1 else float("inf")
        windows = self._lookahead.plan(
            plan, candidates, curve, n_free=n_free, n_ctx=n_ctx, max_ratio=max_ratio if is_known else 0.0
        )
        return dataclasses.replace(plan, windows=windows) if windows else plan

    def observe(self, plan: StepPlan, accepted: dict[int, int], cost: StepCost, seconds: float) -> None:
        """Learn from a step of streams alone.

        Args:
            plan: what was run.
            accepted: how many tokens of each draft were accepted, by request.
            cost: of steps without drafts, as it was for `draft`.
            seconds: that the step took.
        """
        n_streams, n_drafted, n_accepted = len(plan.streams), plan.n_tokens - len(plan.streams), sum(accepted.values())
        plain_s = cost.decode_s(n_streams) or seconds
        for sequence in plan.streams:
            if (state := sequence.speculation) is not None:
                n = 1 + accepted.get(sequence.request_id, 0)
                state.plain_s += n * plain_s if n_drafted else seconds
                state.spent_s += seconds
                if (window := plan.windows.get(sequence.request_id)) is not None:
                    self._lookahead.observe(state.gain, window.size, n)
        if n_drafted == 0:
            self._controller.credit_step()
            return
        curve = self._controller.cost(len(plan.adapters), n_streams)
        self._controller.observe(
            curve, n_streams=n_streams, n_drafted=n_drafted, n_accepted=n_accepted, ratio=seconds / plain_s
        )

    def _choose(
        self, plan: StepPlan, chosen: list[Sequence], cost: StepCost, n_free: int, n_ctx: int, *, is_forced: bool
    ) -> list[int]:
        n_streams = len(plan.streams)
        plain_s = cost.decode_s(n_streams)
        curve = self._controller.cost(len(plan.adapters), n_streams)
        if plain_s > 0 and cost.prefill_s(1) > 0:
            curve.set_prior(cost.prefill_s(1) / plain_s)
        elif not is_forced and plain_s == 0:
            return [0] * len(chosen)
        max_ratio = MAX_SHARED_RATIO if n_streams > 1 else float("inf")
        return self._controller.choose(
            [_survival(s, n_ctx) for s in chosen],
            curve,
            n_streams=n_streams,
            n_max=min(n_free, MAX_DRAFT_TOKENS),
            max_ratio=max_ratio,
            was_right=all(s.speculation.acceptance.was_right for s in chosen if s.speculation is not None),
            is_forced=is_forced,
        )


def _can_draft(sequence: Sequence) -> bool:
    """Whether the sequence has a drafter that knows all of its tokens."""
    state = sequence.speculation
    return state is not None and state.drafter.follow(sequence.tokens, state.acceptance)


def _survival(sequence: Sequence, n_ctx: int) -> list[float]:
    """Return the chances of the tokens that can be proposed and that the request can still use."""
    state = sequence.speculation
    assert state is not None
    return state.acceptance.survival(state.drafter.grades()[: sequence.n_draftable(n_ctx)])


def _propose(sequence: Sequence, n: int) -> list[int]:
    """Return the draft, or nothing where the grammar forbids its first token."""
    state = sequence.speculation
    assert state is not None
    draft = state.drafter.propose(n)
    constraint = sequence.constraint
    return [] if constraint is not None and not constraint.allows(draft[0]) else draft
