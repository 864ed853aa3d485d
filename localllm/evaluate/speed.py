"""How fast models read and write, measured in turns, so that what else the machine does strikes them alike.

One sequence in llama.cpp, without the engine. All write the same tokens, those of the text, so that all do the same
work. A round is one turn of each, every other one in the reverse order; the first is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Self

import numpy as np

from localllm.errors import DecodeFailed, RequestError
from localllm.evaluate.lane import Subject
from localllm.llama import Batch, Context, ContextParams

N_PROMPT = 256
"""Tokens that are read at once."""
N_GENERATED = 32
"""Tokens that are computed one by one."""
N_ROUNDS_MIN, N_ROUNDS_MAX = 3, 9
SECONDS_ENOUGH = 4.0
"""Once the rounds have taken each model so long on average, no further one begins."""


@dataclass(frozen=True)
class Rate:
    """Tokens a second: the median over the rounds, and the quartiles on both sides of it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, n_tokens: int, seconds: Sequence[float]) -> Self:
        """Return the rate of `n_tokens` that took these times."""
        low, median, high = np.quantile(n_tokens / np.asarray(seconds), [0.25, 0.5, 0.75]).tolist()
        return cls(median, low, high)


@dataclass(frozen=True)
class Speed:
    """How fast a model is."""

    prompt: Rate
    """Of reading `n_prompt` tokens in one batch."""
    generation: Rate
    """Of the `n_generated` tokens after them, one by one."""
    n_prompt: int
    n_generated: int
    n_rounds: int


def measure_speed(
    subjects: Sequence[Subject], tokens: Sequence[int], on_round: Callable[[int, int], None] = lambda *_: None
) -> tuple[Speed, ...]:
    """Measure models in turns.

    Args:
        subjects: what to measure.
        tokens: a text that all can read, of the same vocabulary; its first `N_PROMPT + N_GENERATED` tokens are taken,
            or all, a quarter of them one by one, if they are fewer.
        on_round: hears of the rounds that are done, and how many there are at most.

    Raises:
        RequestError: fewer than two tokens.
        ModelLoadFailed: llama.cpp cannot make a context.
        DecodeFailed: llama.cpp failed to evaluate a batch.
    """
    if len(tokens) < 2:
        raise RequestError(f"{len(tokens)} tokens are too few to time.", hint="Give a longer text.")
    taken = list(tokens[: N_PROMPT + N_GENERATED])
    n_generated = N_GENERATED if len(taken) == N_PROMPT + N_GENERATED else max(1, len(taken) // 4)
    prompt, rest = taken[:-n_generated], taken[-n_generated:]
    with ExitStack() as stack:
        runners = [stack.enter_context(closing(_Runner(subject, len(taken)))) for subject in subjects]
        for runner in runners:
            runner.run(prompt, rest)
        times = _timed(runners, prompt, rest, on_round)
    return tuple(
        Speed(
            Rate.of(len(prompt), [read for read, _ in own]),
            Rate.of(len(rest), [written for _, written in own]),
            len(prompt),
            len(rest),
            len(own),
        )
        for own in times
    )


def _timed(
    runners: Sequence[_Runner], prompt: list[int], rest: list[int], on_round: Callable[[int, int], None]
) -> list[list[tuple[float, float]]]:
    """Return for each runner the seconds of its rounds: reading, writing."""
    times: list[list[tuple[float, float]]] = [[] for _ in runners]
    started = time.perf_counter()
    for n_done in range(N_ROUNDS_MAX):
        if n_done >= N_ROUNDS_MIN and time.perf_counter() - started >= SECONDS_ENOUGH * len(runners):
            break
        order = range(len(runners))
        for index in order if n_done % 2 else reversed(order):
            times[index].append(runners[index].run(prompt, rest))
        on_round(n_done + 1, N_ROUNDS_MAX)
    return times


class _Runner:
    """A context of a subject, for one sequence."""

    def __init__(self, subject: Subject, n_tokens: int) -> None:
        self._batch = Batch(n_tokens)
        self._name = subject.model.path.name
        self._context = Context(
            subject.model,
            ContextParams(
                n_ctx=n_tokens,
                n_batch=n_tokens,
                n_outputs_max=1,
                n_threads=subject.n_threads,
                kv_type_k=subject.kv_type_k,
                kv_type_v=subject.kv_type_v,
                flash_attention=subject.flash_attention,
            ),
        )

    def run(self, prompt: list[int], rest: list[int]) -> tuple[float, float]:
        """Read the prompt, then the rest one by one; return the seconds of both."""
        self._context.memory.clear()
        started = time.perf_counter()
        self._decode(prompt, 0)
        read = time.perf_counter()
        for pos, token in enumerate(rest, len(prompt)):
            self._decode([token], pos)
        return read - started, time.perf_counter() - read

    def _decode(self, tokens: list[int], pos: int) -> None:
        self._batch.clear()
        last = self._batch.add_run(tokens, pos, 0, last_wants_logits=True)
        code = self._context.decode(self._batch)
        if code != 0:
            raise DecodeFailed(
                f"llama.cpp failed to evaluate a batch with {self._name} (code {code}).", hint="Try fewer GPU layers."
            )
        # A GPU may still be computing; it is done when its logits are here.
        self._context.logits(last)

    def close(self) -> None:
        """Free the context; closing twice is harmless."""
        self._context.close()
