"""Which numbers the options of a generation may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_COMPLETIONS = 128
MAX_LOGPROBS = 20
# llama.cpp reads 2**32 - 1 as "draw a seed".
MAX_SEED = 2**32 - 2
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Bound:
    """The numbers an option may take: low ≤ x ≤ high, or low < x with `open_low`."""

    low: float = -math.inf
    high: float = math.inf
    integer: bool = False
    open_low: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.integer else "a finite number"
        if math.isinf(self.low):
            return kind
        above = f"above {self.low:g}" if self.open_low else f"at least {self.low:g}"
        if self.high in (math.inf, _INT32_MAX):
            return f"{kind} {above}"
        return f"{kind} {above} and at most {self.high:.12g}"

    def holds(self, value: object) -> bool:
        """Whether `value` is a number within the bound; True and False are not numbers."""
        allowed = (int,) if self.integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and value <= self.high


_COUNT = Bound(1, _INT32_MAX, integer=True)
_LAST_N = Bound(-1, _INT32_MAX, integer=True)
_SHARE = Bound(0, 1)
_POSITIVE_SHARE = Bound(0, 1, open_low=True)
_POSITIVE = Bound(0, open_low=True)
FINITE = Bound()

BOUNDS: dict[str, Bound] = {
    "temperature": Bound(0),
    "top_k": Bound(-_INT32_MAX, _INT32_MAX, integer=True),
    "top_p": _POSITIVE_SHARE,
    "min_p": _SHARE,
    "typical_p": _POSITIVE_SHARE,
    "top_n_sigma": FINITE,
    "xtc_probability": _SHARE,
    "xtc_threshold": _SHARE,
    "repeat_penalty": _POSITIVE,
    "repeat_last_n": _LAST_N,
    "frequency_penalty": FINITE,
    "presence_penalty": FINITE,
    "dry_multiplier": Bound(0),
    "dry_base": _POSITIVE,
    "dry_allowed_length": Bound(0, _INT32_MAX, integer=True),
    "dry_penalty_last_n": _LAST_N,
    "mirostat": Bound(0, 2, integer=True),
    "mirostat_tau": Bound(0),
    "mirostat_eta": Bound(0),
    "seed": Bound(0, MAX_SEED, integer=True),
    "max_tokens": _COUNT,
    "n": Bound(1, MAX_COMPLETIONS, integer=True),
    "logprobs": Bound(0, MAX_LOGPROBS, integer=True),
    "n_sink": Bound(0, _INT32_MAX, integer=True),
    "n_keep": Bound(-1, _INT32_MAX, integer=True),
    "reasoning_budget": Bound(0, _INT32_MAX, integer=True),
}
