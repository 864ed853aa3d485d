"""One step's decisions: for each stream the drafter, how many tokens, and which."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from localllm.engine.speculation.controller import MIN_GAIN, Controller
from localllm.engine.speculation.model_drafter import ModelDrafter
from localllm.engine.speculation.model_drafts import ModelDrafts, is_behind
from localllm.engine.speculation.stream_drafts import Source
from localllm.engine.speculation.width_cost import WidthCost
from localllm.hardware.types import MAX_DRAFT_TOKENS

if TYPE_CHECKING:
    from localllm.engine.cost import StepCost
    from localllm.engine.scheduler import StepPlan
    from localllm.engine.sequence import Sequence

MAX_SHARED_RATIO = 1.1
"""Of several streams, one's draft may make the step that much longer for the others: little where they share a CPU's
time, much where a wide batch costs what a narrow one does."""


class StepDrafts:
    """Decides about the streams of a plan.

    Args:
        controller: which learns from step to step.
        plan: without drafts.
        cost: of steps like this one without drafts.
        model: the draft model's part, if there is one.
        n_ctx: tokens that a sequence may have.
    """

    def __init__(
        self, controller: Controller, plan: StepPlan, cost: StepCost, model: ModelDrafts | None, n_ctx: int
    ) -> None:
        self._controller = controller
        self._plan = plan
        self._model = model
        self._n_ctx = n_ctx
        self._n_streams = len(plan.streams)
        self._max_ratio = MAX_SHARED_RATIO if self._n_streams > 1 else float("inf")
        self._plain_s = cost.decode_s(self._n_streams)
        self.curve: WidthCost = controller.cost(len(plan.adapters), self._n_streams)
        if self._plain_s > 0 and cost.prefill_s(1) > 0:
            self.curve.set_prior(cost.prefill_s(1) / self._plain_s)

    @property
    def max_ratio(self) -> float:
        """How many times a step without drafts one that nobody forces may take; 0 where nothing was measured yet."""
        return self._max_ratio if self._plain_s > 0 else 0.0

    def pick_source(self, sequence: Sequence) -> bool:
        """Choose the drafter that is expected to be fastest, of those that know all tokens; False without any."""
        state = sequence.speculation
        assert state is not None
        ready = [s for s in state.sources if s.drafter.follow(sequence.tokens, s.acceptance)]
        if sequence.n_evicted:
            ready = [source for source in ready if not isinstance(source.drafter, ModelDrafter)]
        if ready:
            state.current = max(ready, key=lambda source: self._speed(sequence, source)) if ready[1:] else ready[0]
        return bool(ready)

    def read(self, streams: list[Sequence]) -> None:
        """Let the draft model read what it misses of the streams, where that is expected to pay."""
        if self._model is not None:
            behind = [drafter for s in streams if (drafter := self._wants_reading(s, self._model)) is not None]
            self._model.read(behind, self._plain_s)

    def choose(self, chosen: list[Sequence], n_free: int, *, is_forced: bool) -> list[int]:
        """Return how many tokens each of these streams shall have drafted."""
        if not is_forced and self._plain_s == 0:
            return [0] * len(chosen)
        sources = [s.speculation.current for s in chosen if s.speculation is not None]
        return self._controller.choose(
            [self._survival(s, source) for s, source in zip(chosen, sources, strict=True)],
            self.curve,
            n_streams=self._n_streams,
            n_max=min(n_free, MAX_DRAFT_TOKENS),
            max_ratio=self._max_ratio,
            drafting=[self._drafting(source) for source in sources],
            was_right=all(source.acceptance.was_right for source in sources),
            is_forced=is_forced,
        )

    def with_drafts(self, counts: dict[int, int]) -> StepPlan:
        """Return the plan with drafts of so many tokens, by request id; some may get shorter."""
        drafts: dict[int, list[int]] = {}
        asked = {}
        for sequence in self._plan.streams:
            state, n = sequence.speculation, counts.get(sequence.request_id, 0)
            if state is None or not n:
                continue
            source = state.current
            if isinstance(source.drafter, ModelDrafter):
                asked[sequence.request_id] = source, source.drafter, n, self._least(counts, source)
            elif draft := source.drafter.propose(n):
                drafts[sequence.request_id] = draft
        choices = {} if self._model is None else self._model.propose(asked)
        drafts |= {key: [choice.token for choice in chosen] for key, chosen in choices.items() if chosen}
        # What was drawn must be put to the test, whatever it is: to leave it out would change the distribution.
        odds = {key: [c.odds for c in chosen if c.odds is not None] for key, chosen in choices.items() if chosen}
        odds = {key: drawn for key, drawn in odds.items() if drawn}
        for sequence in self._plan.streams:
            proposed = drafts.get(sequence.request_id)
            if proposed and sequence.request_id not in odds and not _is_allowed(sequence, proposed[0]):
                del drafts[sequence.request_id]
        return dataclasses.replace(self._plan, drafts=drafts, odds=odds)

    def _wants_reading(self, sequence: Sequence, model: ModelDrafts) -> ModelDrafter | None:
        state = sequence.speculation
        if state is None or sequence.n_evicted or (drafter := is_behind(state)) is None:
            return None
        if state.is_forced:
            return drafter
        source = state.model_source
        assert source is not None
        speed = self._speed(sequence, source[0])
        if speed < MIN_GAIN or not model.is_worth_reading(sequence, drafter, speed, self._plain_s):
            return None
        return drafter

    def _speed(self, sequence: Sequence, source: Source) -> float:
        return self._controller.speed(
            self._survival(sequence, source),
            self.curve,
            n_streams=self._n_streams,
            max_ratio=self._max_ratio,
            drafting=self._drafting(source),
        )

    def _drafting(self, source: Source) -> float:
        """Return what one token costs to propose, in steps without drafts."""
        if self._model is None or not isinstance(source.drafter, ModelDrafter) or self._plain_s == 0:
            return 0.0
        return self._model.model.token_s(self._n_streams, self._plain_s) / self._plain_s

    def _least(self, counts: dict[int, int], source: Source) -> float:
        return self._controller.least_survival(
            self.curve, n_streams=self._n_streams, n_drafted=sum(counts.values()), drafting=self._drafting(source)
        )

    def _survival(self, sequence: Sequence, source: Source) -> list[float]:
        """Return the chances of the tokens that can be proposed and that the request can still use."""
        return source.acceptance.survival(source.drafter.grades()[: sequence.n_draftable(self._n_ctx)])


def _is_allowed(sequence: Sequence, token: int) -> bool:
    """Whether the grammar allows a token to come next."""
    return sequence.constraint is None or sequence.constraint.allows(token)
