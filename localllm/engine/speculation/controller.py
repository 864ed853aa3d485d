"""How long the drafts of the next step shall be, none included: as long as tokens per second are expected to rise.

What is expected can be wrong, so drafts also have a budget: each loss is paid from a credit, which gains and time fill
up slowly. However a text behaves, speculation costs at most about one percent of the time, and a few steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from localllm.engine.speculation.width_cost import WidthCost

DRAFT_LENGTHS = (1, 2, 3, 5, 7, 11, 15, 19, 23, 31, 39, 47)
"""Numbers of draft tokens in one step that are tried; with one stream, widths that fill the rows of CPU kernels."""
MIN_GAIN = 1.03
"""Expected tokens per second over those without drafts, from which on a draft is worth its risk."""
_FIRST_CREDIT = 4.0
_MAX_CREDIT = 24.0
"""In steps without drafts."""
_CREDIT_A_STEP = 0.01
_CREDIT_OF_MISSED_GAIN = 0.05
"""Of a gain that could not be afforded, for a token that would have been right: one loss does not end a long copy."""
_REJECTIONS_TO_FORGET = 128


class Controller:
    """Learns from every step, and decides the next one. It knows no tokens."""

    def __init__(self) -> None:
        self._costs: dict[tuple[int, int], WidthCost] = {}
        self._credit = _FIRST_CREDIT
        self._n_rejected = 0
        self._missed_gain = 0.0

    def cost(self, n_adapters: int, n_streams: int) -> WidthCost:
        """Return what batches cost with so many adapters, in units of a step of so many streams without drafts."""
        key = (n_adapters, n_streams)
        if key not in self._costs:
            self._costs[key] = WidthCost(n_streams)
        return self._costs[key]

    def choose(
        self,
        survivals: Sequence[Sequence[float]],
        cost: WidthCost,
        *,
        n_streams: int,
        n_max: int,
        max_ratio: float,
        drafting: Sequence[float] = (),
        was_right: bool = False,
        is_forced: bool = False,
    ) -> list[int]:
        """Return how many tokens each draft shall have.

        Args:
            survivals: for each draft that could be made, the probability that its first n tokens are all right.
            cost: of batches with this number of streams.
            n_streams: of the step, those without drafts included.
            n_max: draft tokens that there is room for.
            max_ratio: how many times a step without drafts the step may take.
            drafting: for each draft, what one of its tokens costs to propose, in steps without drafts; nothing, if it
                is left out.
            was_right: whether the last tokens were what a draft would have said.
            is_forced: whether to draft at any price.
        """
        if was_right:
            self._credit = min(self._credit + _CREDIT_OF_MISSED_GAIN * self._missed_gain, _MAX_CREDIT)
        prices = drafting or [0.0] * len(survivals)
        priced = ((p, price) for survival, price in zip(survivals, prices, strict=True) for p in survival)
        candidates = sorted(priced, reverse=True)[:n_max]
        merged = [p for p, _ in candidates]
        total = self._best_total(merged, [price for _, price in candidates], cost, n_streams, max_ratio, is_forced)
        if total == 0:
            self._reject(cost, merged)
            return [0] * len(survivals)
        least, counts, left = merged[total - 1], [], total
        for survival in survivals:
            n = min(sum(p >= least for p in survival), left)
            counts.append(n)
            left -= n
        return counts

    @property
    def credit(self) -> float:
        """What may be lost now, in steps without drafts."""
        return self._credit

    def speed(
        self,
        survival: Sequence[float],
        cost: WidthCost,
        *,
        n_streams: int,
        max_ratio: float = float("inf"),
        drafting: float = 0.0,
    ) -> float:
        """Return the best speed expected of one stream's draft, over that without; arguments are as for `choose`.

        0 where there is nothing to propose, or nothing that the step has time for.
        """
        best, expected = 0.0, float(n_streams)
        for n, p in enumerate(survival, 1):
            expected += p
            ratio = cost.ratio(n_streams + n) + n * drafting if n in DRAFT_LENGTHS else max_ratio
            if ratio < max_ratio:
                best = max(best, expected / n_streams / ratio)
        return best

    def least_survival(self, cost: WidthCost, *, n_streams: int, n_drafted: int, drafting: float) -> float:
        """Return how likely a token must be right to be worth its share of a step with `n_drafted` draft tokens."""
        share = (cost.ratio(n_streams + n_drafted) - 1.0) / n_drafted
        return n_streams * (share + drafting)

    def credit_step(self, drafting: float = 0.0) -> None:
        """A step without drafts was run; to find that nothing was worth it took `drafting` such steps."""
        self._credit = min(self._credit + _CREDIT_A_STEP - drafting, _MAX_CREDIT)

    def observe(
        self,
        cost: WidthCost,
        *,
        n_streams: int,
        n_drafted: int,
        n_accepted: int,
        ratio: float,
        drafting: float = 0.0,
    ) -> None:
        """Learn from a step with drafts.

        Args:
            cost: as for `choose`.
            n_streams: of the step.
            n_drafted: tokens, of all streams.
            n_accepted: of them.
            ratio: the time that the batch took, over that of a step without drafts.
            drafting: ... and the time that it took to propose them.
        """
        cost.observe(n_streams + n_drafted, ratio)
        gain = (n_streams + n_accepted) / n_streams - ratio - drafting
        self._credit = min(self._credit + gain, _MAX_CREDIT)

    def _best_total(
        self,
        merged: Sequence[float],
        prices: Sequence[float],
        cost: WidthCost,
        n_streams: int,
        max_ratio: float,
        is_forced: bool,
    ) -> int:
        """Return the number of draft tokens with the highest expected speed; `merged` has the likeliest first."""
        best_total, best_speed = 0, 0.0 if is_forced else MIN_GAIN
        expected, taken, missed = float(n_streams), 0, 0.0
        for length in DRAFT_LENGTHS:
            length = min(length, len(merged))
            if length <= taken:
                break
            expected += sum(merged[taken:length])
            taken = length
            ratio = cost.ratio(n_streams + length) + sum(prices[:length])
            speed = expected / n_streams / ratio
            if speed <= best_speed:
                continue
            if not is_forced and ratio > max_ratio:
                continue
            if is_forced or self._can_afford(merged[:length], ratio, n_streams):
                best_total, best_speed = length, speed
            else:
                missed = max(missed, expected / n_streams - ratio)
        self._missed_gain = missed if best_total == 0 else 0.0
        return best_total

    def _can_afford(self, survival: Sequence[float], ratio: float, n_streams: int) -> bool:
        """Whether the credit covers what is lost, times the chance of losing it."""
        n_even = min(max(int((ratio - 1.0) * n_streams), 0), len(survival) - 1)
        return self._credit >= (ratio - 1.0) * (1.0 - survival[n_even])

    def _reject(self, cost: WidthCost, merged: Sequence[float]) -> None:
        if merged:
            self._n_rejected += 1
            if self._n_rejected % _REJECTIONS_TO_FORGET == 0:
                cost.forget()
