"""What a batch of width n costs, as a multiple of the step without drafts, learned while it runs.

On a GPU it is nearly flat; on a CPU it rises almost in proportion. It knows nothing of context depth; the averages
follow it.
"""

from __future__ import annotations

from bisect import bisect_left

_MIN_WEIGHT = 0.1
_MAX_JUMP = 2.0
"""A measurement counts as this many times the prediction at most: a pause of the machine says nothing of widths."""
_FORGET = 0.1
_UNKNOWN_SLOPE = 0.6
"""Of a token more, before a prompt was computed."""
_MIN_SLOPE = 0.01


class WidthCost:
    """The curve at one number of streams: piecewise linear between measured widths, and never falling.

    Args:
        n_streams: the width of the step without drafts, whose ratio is 1.
    """

    def __init__(self, n_streams: int) -> None:
        self._n_streams = n_streams
        self._ratios: dict[int, float] = {}
        self._counts: dict[int, int] = {}
        self._widths = [n_streams]
        self._curve = [1.0]
        self._slope = _UNKNOWN_SLOPE

    def set_prior(self, slope: float) -> None:
        """Say what a prompt's token costs beside the step without drafts: the slope where nothing was measured."""
        self._slope = max(slope, _MIN_SLOPE)

    def ratio(self, width: int) -> float:
        """Return the cost of a batch of `width` tokens over that of `n_streams` tokens."""
        widths, curve = self._widths, self._curve
        if width >= widths[-1]:
            return curve[-1] + self._slope * (width - widths[-1])
        i = max(bisect_left(widths, width), 1)
        share = (width - widths[i - 1]) / (widths[i] - widths[i - 1])
        return curve[i - 1] + share * (curve[i] - curve[i - 1])

    def is_measured(self, width: int) -> bool:
        """Whether a batch as wide, or wider, was run; where not, `ratio` goes on with the prior's slope."""
        return width <= self._widths[-1]

    def observe(self, width: int, ratio: float) -> None:
        """Learn from a batch of `width` tokens."""
        ratio = min(ratio, _MAX_JUMP * self.ratio(width))
        count = self._counts[width] = self._counts.get(width, 0) + 1
        old = self._ratios.get(width, ratio)
        self._ratios[width] = old + max(1 / count, _MIN_WEIGHT) * (ratio - old)
        self._rebuild()

    def forget(self) -> None:
        """Move what was measured towards the prior, so that a width that was once too dear is tried again some time."""
        for width, ratio in self._ratios.items():
            prior = 1.0 + self._slope * (width - self._n_streams)
            self._ratios[width] = ratio + _FORGET * min(prior - ratio, 0.0)
        self._rebuild()

    def _rebuild(self) -> None:
        self._widths, self._curve = [self._n_streams], [1.0]
        for width in sorted(self._ratios):
            self._widths.append(width)
            self._curve.append(max(self._ratios[width], self._curve[-1]))
