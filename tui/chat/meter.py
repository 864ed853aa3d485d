"""The figures of an answer: live while it streams, exact at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.llm.events import ChatEvent, Done


@dataclass(frozen=True)
class Figures:
    """What is shown of an answer's cost; None is not known."""

    tok_s: float | None = None
    first_s: float | None = None
    n_context: int | None = None
    """Tokens in the context: prompt and answer, without what slid out."""
    n_ctx: int | None = None
    n_reused: int = 0
    n_evicted: int = 0
    speedup: float | None = None
    """Decoding speed over what it would have been without drafts."""

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Figures:
        """Read what `Meter.facts` kept."""
        usage, timings = facts.get("usage") or {}, facts.get("timings") or {}
        n_evicted = usage.get("evicted_tokens", 0)
        n_tokens = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
        return cls(
            tok_s=timings.get("decode_tok_s") or None,
            first_s=timings.get("ttft_s") or None,
            n_context=n_tokens - n_evicted if n_tokens else None,
            n_ctx=facts.get("n_ctx") or None,
            n_reused=usage.get("cached_tokens", 0),
            n_evicted=n_evicted,
            speedup=(usage.get("speculation") or {}).get("speedup_est"),
        )


class Meter:
    """Follows the events of one answer.

    Args:
        n_ctx: of the model; 0 is unknown.
        clock: seconds; tests give their own.
    """

    def __init__(self, n_ctx: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._n_ctx = n_ctx
        self._began_s = clock()
        self._first_s: float | None = None
        self._last_s = self._began_s
        self._n_pieces = 0
        self._n_prompt = 0
        self._n_cached = 0
        self._done: Done | None = None

    def accept(self, event: ChatEvent) -> None:
        """Count an event."""
        from localllm.llm.events import Done, Progress, Waiting

        if isinstance(event, Done):
            self._done = event
        elif isinstance(event, Progress):
            self._n_prompt, self._n_cached = event.n_total, event.n_cached
        elif not isinstance(event, Waiting):
            self._last_s = self._clock()
            self._first_s = self._first_s or self._last_s
            self._n_pieces += 1

    @property
    def figures(self) -> Figures:
        return Figures.of_facts(self.facts())

    def facts(self) -> dict[str, Any]:
        """Return what is kept with the answer: JSON. Of an answer that did not end, what was seen from here."""
        if self._done is None:
            return {"usage": self._seen_usage(), "timings": self._seen_timings(), "n_ctx": self._n_ctx}
        import msgspec

        done = self._done
        return {
            "usage": msgspec.to_builtins(done.usage),
            "timings": msgspec.to_builtins(done.timings),
            "n_ctx": self._n_ctx,
            "cause": done.cause,
            "reasoning_tokens": done.reasoning_tokens,
        }

    def _seen_usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._n_prompt,
            "completion_tokens": self._n_pieces,
            "cached_tokens": self._n_cached,
            "evicted_tokens": 0,
        }

    def _seen_timings(self) -> dict[str, float]:
        if self._first_s is None:
            return {"ttft_s": 0.0, "decode_tok_s": 0.0}
        decode_s = self._last_s - self._first_s
        return {
            "ttft_s": self._first_s - self._began_s,
            "decode_tok_s": (self._n_pieces - 1) / decode_s if decode_s > 0 else 0.0,
        }
