"""Which streams of a step look ahead, and how wide: forced ones as the room allows, the others where it should pay.

What a step is expected to bring is measured in tokens (`lookahead_gain.py`), what it costs by its width
(`width_cost.py`); the size with the best ratio is taken, if that is worth its risk and the controller's credit covers
the loss. On a CPU the widths alone cost more than all tokens that a step could bring, so nothing is ever tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as SequenceOf
from typing import TYPE_CHECKING

from localllm.engine.speculation.controller import MIN_GAIN, Controller
from localllm.engine.speculation.lookahead import LookaheadSize, LookaheadStep
from localllm.engine.speculation.lookahead_gain import SIZE_PRIORS, LookaheadGain, SharedGains
from localllm.engine.speculation.width_cost import WidthCost
from localllm.hardware.types import MAX_DRAFT_TOKENS

if TYPE_CHECKING:
    from localllm.engine.scheduler import StepPlan
    from localllm.engine.sequence import Sequence

FORCED_SIZES = (
    LookaheadSize(5, 3, 5),
    LookaheadSize(5, 3, 2),
    LookaheadSize(3, 3, 2),
    LookaheadSize(2, 3, 1),
)
_REJECTIONS_TO_FORGET = 128
_UNMEASURED_SHARE = 0.5


@dataclasses.dataclass(slots=True)
class _Left:
    """What a step still has room for."""

    n_tokens: int
    n_rows: int
    n_ids: int

    def fits(self, size: LookaheadSize) -> bool:
        return size.n_tokens <= self.n_tokens and size.n_rows <= self.n_rows and size.n_ids <= self.n_ids

    def take(self, size: LookaheadSize) -> None:
        self.n_tokens -= size.n_tokens
        self.n_rows -= size.n_rows
        self.n_ids -= size.n_ids


class LookaheadPlanner:
    """Plans the lookahead of an engine's steps.

    Args:
        controller: whose credit pays losses.
        n_ids: sequence ids that a step has for branches.
        forced_sizes: of windows that are asked for at any price, the first that there is room for.
    """

    def __init__(
        self, controller: Controller, n_ids: int, forced_sizes: SequenceOf[LookaheadSize] = FORCED_SIZES
    ) -> None:
        self._controller = controller
        self._n_ids = n_ids
        self._forced_sizes = forced_sizes
        self._gains = SharedGains()
        self._n_rejected = 0

    def plan(
        self,
        plan: StepPlan,
        candidates: SequenceOf[Sequence],
        curve: WidthCost,
        *,
        n_free: int,
        n_ctx: int,
        max_ratio: float,
    ) -> dict[int, LookaheadStep]:
        """Return the windows of a step, by request id.

        A slid stream has them like any other, as its positions have no gaps. Near the end of the context, where the
        window would reach beyond, a stream has none.

        Args:
            plan: of the step, with its drafts.
            candidates: streams that may have windows.
            curve: what batches with this number of streams cost.
            n_free: tokens that the step may have more, in batch and cells, those of drafts not yet taken off.
            n_ctx: tokens that a sequence may have.
            max_ratio: how many times a step without drafts a step that is not forced may take; 0 where nothing was
                measured yet.
        """
        n_drafted = plan.n_drafted
        left = _Left(n_free - n_drafted, MAX_DRAFT_TOKENS - n_drafted, self._n_ids)
        forced = [s for s in candidates if s.speculation is not None and s.speculation.mode == "lookahead"]
        chosen = [(s, self._first_fit(s, left, n_ctx)) for s in forced]
        if not forced and not plan.drafts:
            chosen = self._paying(len(plan.streams), candidates, curve, left, n_ctx, max_ratio)
        return {s.request_id: _step(s, size, n_ctx) for s, size in chosen if size is not None}

    def observe(self, own: LookaheadGain, size: LookaheadSize, n_tokens: int) -> None:
        """Learn what a stream's window brought, in tokens, the one that came anyway included."""
        own.count(size, n_tokens)
        self._gains.count(size, n_tokens)

    def choose_size(
        self,
        own: LookaheadGain,
        curve: WidthCost,
        *,
        n_streams: int,
        max_ratio: float,
        sizes: SequenceOf[LookaheadSize] = tuple(SIZE_PRIORS),
    ) -> LookaheadSize | None:
        """Return the size with the highest expected speed, None where none is worth its risk.

        Args:
            own: what the stream's windows brought so far.
            curve: what batches with this number of streams cost.
            n_streams: of the step; the others' tokens come later for it.
            max_ratio: how many times a step without drafts the step may take.
            sizes: that there is room for.
        """
        best, best_speed, is_refused = None, MIN_GAIN, False
        for size in sizes:
            ratio = _expected_ratio(curve, n_streams + size.n_tokens)
            speed = (n_streams - 1 + self._gains.hoped(own, size)) / n_streams / ratio
            if speed > best_speed and ratio <= max_ratio and self._controller.credit >= ratio - 1.0:
                best, best_speed = size, speed
            is_refused |= (n_streams - 1 + SIZE_PRIORS[size]) / n_streams / ratio > MIN_GAIN
        if best is None and is_refused:
            self._reject(own)
        return best

    def _reject(self, own: LookaheadGain) -> None:
        self._n_rejected += 1
        if self._n_rejected % _REJECTIONS_TO_FORGET == 0:
            self._gains.forget(own)

    def _first_fit(self, sequence: Sequence, left: _Left, n_ctx: int) -> LookaheadSize | None:
        for size in self._forced_sizes:
            if left.fits(size) and _reaches(sequence, size, n_ctx):
                left.take(size)
                return size
        return None

    def _paying(
        self,
        n_streams: int,
        candidates: SequenceOf[Sequence],
        curve: WidthCost,
        left: _Left,
        n_ctx: int,
        max_ratio: float,
    ) -> list[tuple[Sequence, LookaheadSize | None]]:
        """Return one stream with its size; more at once would not be what the curve was asked for."""
        for sequence in candidates:
            state = sequence.speculation
            if state is None or state.mode != "auto":
                continue
            sizes = [size for size in SIZE_PRIORS if left.fits(size) and _reaches(sequence, size, n_ctx)]
            size = self.choose_size(state.gain, curve, n_streams=n_streams, max_ratio=max_ratio, sizes=sizes)
            if size is not None:
                return [(sequence, size)]
        return []


def _expected_ratio(curve: WidthCost, width: int) -> float:
    """Return what a width is taken to cost.

    The prior's slope is that of a prompt, whose wide batches are bound by compute. Where nothing as wide was run yet,
    the truth is somewhere between that and no slope at all (memory-bound, a GPU), and a first try shows it.
    """
    ratio = curve.ratio(width)
    return ratio if curve.is_measured(width) else 1.0 + _UNMEASURED_SHARE * (ratio - 1.0)


def _reaches(sequence: Sequence, size: LookaheadSize, n_ctx: int) -> bool:
    """Whether the request can use a branch, and all positions of the window are in the context."""
    return sequence.n_draftable(n_ctx) > 0 and sequence.n_cells + size.n_positions < n_ctx


def _step(sequence: Sequence, size: LookaheadSize, n_ctx: int) -> LookaheadStep:
    """Return the stream's next step, without the branches that its grammar forbids at once."""
    state = sequence.speculation
    assert state is not None
    step = state.look_ahead(sequence.tokens).step(size, sequence.n_draftable(n_ctx))
    constraint = sequence.constraint
    if constraint is None:
        return step
    return dataclasses.replace(step, branches=tuple(c for c in step.branches if constraint.allows(c[0])))
