"""Drafts for the steps of an engine: who may have one, what they bring, and what became of them.

It stands between the scheduler's plan and the runner. It adds draft tokens to a plan, where nobody else wants the room,
and hears what was accepted; it moves no cells of the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

from localllm.engine.sampling import all_bias, build_draft_chain
from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.draft_model import DraftModel, Reader
from localllm.engine.speculation.draft_sampler import DraftSampler
from localllm.engine.speculation.lookahead import Lookahead, LookaheadSize
from localllm.engine.speculation.lookahead_planner import FORCED_SIZES, LookaheadPlanner
from localllm.engine.speculation.model_drafter import ModelDrafter
from localllm.engine.speculation.model_drafts import ModelDrafts
from localllm.engine.speculation.modes import SpecModes
from localllm.engine.speculation.ngram import GRADE_PRIORS, NgramDrafter
from localllm.engine.speculation.shared_texts import SharedTexts
from localllm.engine.speculation.step_drafts import StepDrafts
from localllm.engine.speculation.stream_drafts import Source, StreamDrafts
from localllm.llama import Vocab

if TYPE_CHECKING:
    from localllm.engine.cost import StepCost
    from localllm.engine.scheduler import StepPlan
    from localllm.engine.sequence import Sequence


class Speculator:
    """Makes the drafts of an engine's steps.

    Args:
        modes: what requests get.
        vocab: the target's.
        draft_model: of the engine, if there is one; the caller closes it.
        n_branch_ids: sequence ids that a step has for the branches of lookahead.
        texts: where lookup looks too, if requests may know of each other.
        lookahead_sizes: of windows that are asked for at any price, the first that there is room for.
    """

    def __init__(
        self,
        modes: SpecModes,
        vocab: Vocab,
        draft_model: DraftModel | None = None,
        *,
        n_branch_ids: int = 0,
        texts: SharedTexts | None = None,
        lookahead_sizes: SequenceOf[LookaheadSize] = FORCED_SIZES,
    ) -> None:
        self._modes = modes
        self._vocab = vocab
        self._texts = texts
        self._controller = Controller()
        self._ngram_rates = SharedRates(GRADE_PRIORS)
        self._model = None if draft_model is None else ModelDrafts(draft_model)
        self._lookahead = LookaheadPlanner(self._controller, n_branch_ids, lookahead_sizes)
        self._is_held = False

    @property
    def drafting_s(self) -> float:
        """Seconds that the draft model took of this step."""
        return 0.0 if self._model is None else self._model.read_s + self._model.drafting_s

    def enter(self, sequence: Sequence) -> None:
        """Give a new sequence its drafters, if it is to have any."""
        mode, sources = self._modes.of(sequence.request), []
        if mode in ("auto", "ngram"):
            sources.append(Source(NgramDrafter(self._texts), Acceptance(self._ngram_rates)))
        if mode in ("auto", "draft") and self._model is not None:
            drafter = self._model_drafter(self._model.model, sequence, always=mode == "draft")
            sources.append(Source(drafter, Acceptance(self._model.rates)))
        if mode == "lookahead":
            sources.append(Source(Lookahead(), Acceptance(self._ngram_rates)))
        if sources:
            sequence.speculation = StreamDrafts(sources, mode)

    def hold(self) -> None:
        """Make no drafts for the next step: there was no room for the last one's."""
        self._is_held = True

    def clear(self) -> None:
        """Forget what the draft model has read."""
        if self._model is not None:
            self._model.model.clear()

    def draft(self, plan: StepPlan, cost: StepCost, *, n_free: int, n_ctx: int) -> StepPlan:
        """Return the plan with drafts for its streams.

        Args:
            plan: without drafts. Where it has prompts, they get the time and the room.
            cost: of steps like this one without drafts.
            n_free: tokens that the step may have more, in batch and cells.
            n_ctx: tokens that a sequence may have.
        """
        if self._model is not None:
            self._model.begin_step()
        is_held, self._is_held = self._is_held, False
        if plan.chunks or is_held or not _has_drafters(plan):
            return plan
        streams = StepDrafts(self._controller, plan, cost, self._model, n_ctx)
        candidates = [s for s in plan.streams if s.speculation is not None and streams.pick_source(s)]
        streams.read(plan.streams)
        if not candidates or n_free <= 0:
            return plan
        forced = [s for s in candidates if s.speculation is not None and s.speculation.is_forced]
        chosen = forced or candidates
        counts = streams.choose(chosen, n_free, is_forced=bool(forced))
        plan = streams.with_drafts(dict(zip([s.request_id for s in chosen], counts, strict=True)))
        windows = self._lookahead.plan(
            plan, candidates, streams.curve, n_free=n_free, n_ctx=n_ctx, max_ratio=streams.max_ratio
        )
        return dataclasses.replace(plan, windows=windows) if windows else plan

    def observe(self, plan: StepPlan, accepted: dict[int, int], cost: StepCost, seconds: float) -> None:
        """Learn from a step of streams alone.

        Args:
            plan: what was run.
            accepted: how many tokens of each draft were accepted, by request.
            cost: of steps without drafts, as it was for `draft`.
            seconds: that the step took, `drafting_s` included.
        """
        if not _has_drafters(plan):
            return
        n_streams, n_drafted, n_accepted = len(plan.streams), plan.n_tokens - len(plan.streams), sum(accepted.values())
        verifying_s = seconds - self.drafting_s
        plain_s = cost.decode_s(n_streams) or verifying_s
        for sequence in plan.streams:
            if (state := sequence.speculation) is not None:
                n = 1 + accepted.get(sequence.request_id, 0)
                state.plain_s += n * plain_s if n_drafted else verifying_s
                state.spent_s += seconds
                if (window := plan.windows.get(sequence.request_id)) is not None:
                    self._lookahead.observe(state.gain, window.size, n)
        drafting = 0.0 if self._model is None else self._model.drafting_s / plain_s
        if n_drafted == 0:
            self._controller.credit_step(drafting)
            return
        curve = self._controller.cost(len(plan.adapters), n_streams)
        self._controller.observe(
            curve,
            n_streams=n_streams,
            n_drafted=n_drafted,
            n_accepted=n_accepted,
            ratio=verifying_s / plain_s,
            drafting=drafting,
        )

    def _model_drafter(self, model: DraftModel, sequence: Sequence, *, always: bool) -> ModelDrafter:
        request = sequence.request
        chain = None if sequence.rng is None else build_draft_chain(request.sampling)
        bias = all_bias(request.sampling, self._vocab.eog_tokens if request.ignore_eos else ())
        sampler = DraftSampler(min(model.n_vocab, self._vocab.n_tokens), bias, chain, sequence.rng)
        return ModelDrafter(model, Reader(sequence.request_id, sequence.tokens, sampler), always=always)


def _has_drafters(plan: StepPlan) -> bool:
    """Whether any stream may have drafts."""
    return any(sequence.speculation is not None for sequence in plan.streams)
