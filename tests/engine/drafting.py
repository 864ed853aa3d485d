"""What tests of drafts share: prompts that repeat themselves, constraints, and the comparison with no drafts."""

from __future__ import annotations

import math

import numpy as np

from localllm.engine import Engine, SamplingParams, TokenEvent
from tests.engine.driving import Outcome, generate, prompt_of

LOGIT_DRIFT = 0.5
"""Most that rounding changes a logit of the tiny model in wider batches, with an f16 cache."""
FEW = dict.fromkeys(range(40, 46), 8.0)
"""A bias towards a few tokens."""


def repeating(seed: int, n: int = 20) -> list[int]:
    """Return a prompt that repeats itself, so that there is always something to look up."""
    return prompt_of(seed, n) * 5


def loops(seed: int) -> SamplingParams:
    """Return seeded sampling that differs by seed, and repeats itself soon for want of tokens to choose from."""
    return SamplingParams(seed=seed, temperature=0.7, logit_bias=FEW)


def drafted(outcome: Outcome) -> int:
    report = outcome.finish.usage.speculation
    return 0 if report is None else report.drafted


def accepted(outcome: Outcome) -> int:
    report = outcome.finish.usage.speculation
    return 0 if report is None else report.accepted


def both(engine: Engine, prompt: list[int], spec: str, **fields: object) -> tuple[Outcome, Outcome]:
    """Generate without drafts, and with as many as possible. Matchers are given as functions that make one."""
    made = {k: fields.pop(k) for k in ("constraint", "stop") if k in fields}
    fields = {"max_tokens": 80, "ignore_eos": True, "cache_prompt": False, **fields}
    off, on = (
        generate(engine, prompt, spec=kind, **fields, **{k: make() for k, make in made.items()})  # type: ignore[operator]
        for kind in ("off", spec)
    )
    assert off.finish.usage.speculation is None
    report = on.finish.usage.speculation
    assert report is not None and report.kind == spec
    return off, on


def check_same(off: Outcome, on: Outcome) -> None:
    assert on.tokens == off.tokens
    assert [e.piece for e in on.token_events] == [e.piece for e in off.token_events]
    assert (on.finish.reason, on.finish.cause) == (off.finish.reason, off.finish.cause)
    assert on.finish.usage.completion_tokens == off.finish.usage.completion_tokens


def logprobs_of(event: TokenEvent) -> list[float]:
    assert event.logprob is not None
    return [event.logprob, *(t.logprob for t in event.top_logprobs)]


class Cycle:
    """A constraint that allows a cycle of tokens, with one of two at each turn's end; it must not hear of others."""

    def __init__(self, n: int = 10**6) -> None:
        self.n_left = n
        self.place = 0

    @property
    def _allowed(self) -> list[int]:
        return [70 + self.place] if self.place < 5 else [80, 81]

    def mask_logits(self, logits: np.ndarray) -> None:
        keep = logits[self._allowed]
        logits[:] = -math.inf
        logits[self._allowed] = keep

    def allows(self, token: int) -> bool:
        return token in self._allowed

    def accept(self, token: int) -> None:
        assert self.allows(token)
        self.place = (self.place + 1) % 6
        self.n_left -= 1

    @property
    def is_complete(self) -> bool:
        return self.n_left == 0


class StopAfter:
    def __init__(self, n: int) -> None:
        self.n = n

    def feed(self, piece: bytes) -> bool:
        self.n -= 1
        return self.n == 0


class SameToken:
    """A constraint that allows one token for ever: every draft is right, to its end."""

    is_complete = False

    def mask_logits(self, logits: np.ndarray) -> None:
        keep = logits[50]
        logits[:] = -math.inf
        logits[50] = keep

    def allows(self, token: int) -> bool:
        return token == 50

    def accept(self, token: int) -> None:
        assert token == 50
