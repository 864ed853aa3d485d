"""From values to places on an axis, and the round numbers that it is labelled with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_ROUND = (1.0, 2.0, 5.0, 10.0)


def short_number(value: float) -> str:
    """Return a number in few characters: 1500000 is 1.5M."""
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


@dataclass(frozen=True)
class Axis:
    """What an axis is told: its title, and where it begins and ends if not with the values."""

    title: str = ""
    is_log: bool = False
    """Values of 0 and less are left out."""
    low: float | None = None
    high: float | None = None
    number: Callable[[float], str] = short_number
    """How its numbers are written."""

    def scale(self, values: Iterable[float], n_ticks: int) -> Scale:
        """Return the scale that shows all values, with at most about `n_ticks` numbers."""
        fixed = [value for value in (self.low, self.high) if value is not None]
        kept = [value for value in (*values, *fixed) if math.isfinite(value) and (value > 0 or not self.is_log)]
        low = min(kept, default=1.0) if self.low is None else self.low
        high = max(kept, default=low + 1.0) if self.high is None else self.high
        return _log_scale(low, high, n_ticks) if self.is_log else _linear_scale(low, high, n_ticks)


@dataclass(frozen=True)
class Scale:
    """From values to shares of an axis."""

    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False

    def share(self, value: float) -> float | None:
        """Return where `value` is, 0 to 1; None if it has no place here."""
        if not math.isfinite(value) or (self.is_log and value <= 0):
            return None
        share = (self._flat(value) - self._flat(self.low)) / (self._flat(self.high) - self._flat(self.low))
        return share if -1e-9 <= share <= 1 + 1e-9 else None

    def _flat(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def _linear_scale(low: float, high: float, n_ticks: int) -> Scale:
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _round_up((high - low) / max(1, n_ticks))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(first * step, last * step, tuple(n * step for n in range(first, last + 1)))


def _log_scale(low: float, high: float, n_ticks: int) -> Scale:
    low, high = min(low, high), max(low, high)
    first = max(value for value in _decades(low) if value <= low * (1 + 1e-9))
    last = min(value for value in _decades(high) if value >= high * (1 - 1e-9) and value > first * (1 + 1e-9))
    n_first, n_last = math.floor(math.log10(first)), math.ceil(math.log10(last))
    every = [digit * 10.0**n for n in range(n_first, n_last + 1) for digit in _ROUND[:3]]
    ticks = [tick for tick in every if first * 0.999 <= tick <= last * 1.001]
    if len(ticks) > n_ticks:
        decades = [tick for tick in ticks if _is_decade(tick)]
        ticks = decades if len(decades) > 1 else sorted({first, *decades, last})
    return Scale(first, last, tuple(ticks), is_log=True)


def _decades(around: float) -> list[float]:
    """Return 1, 2 and 5 of the decades beside `around`."""
    n = math.floor(math.log10(around))
    return [digit * 10.0**k for k in (n - 1, n, n + 1) for digit in _ROUND[:3]]


def _is_decade(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


def _round_up(step: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(step))
    return unit * next((digit for digit in _ROUND if digit * unit >= step * (1 - 1e-9)), 10.0)
