"""What the server's counters say of the last minutes."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

WINDOW_S = 300.0
"""How far back one can look."""
_LINE = re.compile(r"^localllm_(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_COUNTERS = {
    "n_decoded": "engine_tokens_decoded_total",
    "n_prefilled": "engine_tokens_prefilled_total",
    "n_reused": "engine_tokens_reused_total",
    "ttft_s": "time_to_first_token_seconds_sum",
    "n_ttft": "time_to_first_token_seconds_count",
    "between_s": "inter_token_seconds_sum",
    "n_between": "inter_token_seconds_count",
}


@dataclass(frozen=True)
class Counters:
    """All models together, at one moment."""

    time_s: float
    n_decoded: float = 0.0
    n_prefilled: float = 0.0
    n_reused: float = 0.0
    ttft_s: float = 0.0
    n_ttft: float = 0.0
    between_s: float = 0.0
    n_between: float = 0.0


@dataclass(frozen=True)
class Moment:
    """What happened between two looks."""

    time_s: float
    decode_tok_s: float
    prefill_tok_s: float
    ttft_s: float | None
    """Mean of the answers that ended; None where none did."""
    between_s: float | None
    """Mean time from token to token of the same."""


def parse_counters(text: str, time_s: float) -> Counters:
    """Read Prometheus's format; what is not there counts 0."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            sums[name] = sums.get(name, 0.0) + float(value)
        except ValueError:
            continue
    return Counters(time_s, **{field: sums.get(name, 0.0) for field, name in _COUNTERS.items()})


class History:
    """The last minutes."""

    def __init__(self) -> None:
        self.moments: deque[Moment] = deque()
        self._last: Counters | None = None

    def add(self, counters: Counters) -> None:
        """Take what the counters say now. A model that was unloaded takes its counts along: that is no moment."""
        last, self._last = self._last, counters
        if last is None or counters.time_s <= last.time_s or counters.n_decoded < last.n_decoded:
            return
        span_s = counters.time_s - last.time_s
        self.moments.append(
            Moment(
                counters.time_s,
                (counters.n_decoded - last.n_decoded) / span_s,
                max(0.0, counters.n_prefilled - last.n_prefilled) / span_s,
                _mean(counters.ttft_s - last.ttft_s, counters.n_ttft - last.n_ttft),
                _mean(counters.between_s - last.between_s, counters.n_between - last.n_between),
            )
        )
        while self.moments and self.moments[0].time_s < counters.time_s - WINDOW_S:
            self.moments.popleft()


def _mean(total: float, n: float) -> float | None:
    return total / n if n > 0 and total >= 0 else None
