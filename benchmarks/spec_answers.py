"""Answers of our engine with drafts and without, one request at a time or a few at once."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.engine import Engine, Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.hardware.types import LoadPlan, MemoryEstimate, SpecMode
from localllm.llama import Model

N_STREAMS = 8


@dataclass(frozen=True)
class Settings:
    model: Path
    n_pairs: int
    n_tokens: int
    n_threads: int
    kv_type: str
    spec: SpecMode
    draft_model: Model | None = None

    @property
    def plan(self) -> LoadPlan:
        return LoadPlan(
            path=str(self.model),
            n_ctx=8192,
            n_slots=N_STREAMS,
            n_gpu_layers=0,
            kv_type_k=self.kv_type,
            kv_type_v=self.kv_type,
            n_batch=512,
            n_ubatch=512,
            n_threads=self.n_threads,
            estimate=MemoryEstimate(0, 0, 0),
            spec="off",
        )


class Answer:
    """One request's tokens and its end."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self.finish: FinishEvent | None = None
        self._done: queue.SimpleQueue[FinishEvent] = queue.SimpleQueue()

    def sink(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            self.events.append(event)
        elif isinstance(event, FinishEvent):
            self._done.put(event)

    def wait(self) -> Answer:
        self.finish = self._done.get()
        if self.finish.error is not None:
            raise RuntimeError(self.finish.error.message)
        return self

    @property
    def tokens(self) -> list[int]:
        return [event.token for event in self.events]

    @property
    def tok_s(self) -> float:
        assert self.finish is not None
        return self.finish.timings.decode_tok_s

    @property
    def report(self) -> dict[str, Any]:
        assert self.finish is not None
        found = self.finish.usage.speculation
        return {} if found is None else {"drafted": found.drafted, "accepted": found.accepted}


def start(
    engine: Engine,
    prompt: list[int],
    n_tokens: int,
    spec: SpecMode,
    *,
    ignore_eos: bool = False,
    n_logprobs: int | None = None,
) -> Answer:
    answer = Answer()
    request = GenerationRequest(
        prompt=tuple(prompt),
        max_tokens=n_tokens,
        sampling=SamplingParams(temperature=0.0),
        spec=spec,
        ignore_eos=ignore_eos,
        n_logprobs=n_logprobs,
    )
    engine.submit(request, answer.sink)
    return answer


def in_turns(measure: Callable[[SpecMode], float], spec: SpecMode, n_pairs: int) -> list[float]:
    """Return the ratios of speeds, `spec` over off; each goes first every other time."""
    ratios = []
    for i in range(n_pairs):
        order: tuple[SpecMode, SpecMode] = ("off", spec) if i % 2 else (spec, "off")
        speeds = {mode: measure(mode) for mode in order}
        ratios.append(speeds[spec] / speeds["off"])
    return ratios
