"""Driving an engine from a test: submit, wait, look at what came out."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

import numpy as np

from localllm.engine import (
    Engine,
    Event,
    FinishEvent,
    GenerationRequest,
    PrefillProgress,
    SamplingParams,
    TokenEvent,
)
from localllm.engine.context_policy import Window
from localllm.llama import Batch, Context, ContextParams, LoraAdapter, Model

EngineFactory = Callable[..., Engine]
GREEDY = SamplingParams(temperature=0)
STEADY_KV = "q8_0"
"""llama.cpp's CPU attention adds f16 values up in f16, in the order of the cells; with q8_0 it adds in f32, so that
where the cells lie, and how wide the batch is, changes a logit by 1e-6 and not by 1e-2."""


class Outcome:
    """Collects one request's events."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.events: list[Event] = []

    def wait(self, timeout: float = 240.0) -> Outcome:
        while not self.events or not isinstance(self.events[-1], FinishEvent):
            self.events.append(self.queue.get(timeout=timeout))
        return self

    def wait_for_token(self, n: int = 1, timeout: float = 240.0) -> Outcome:
        while len(self.token_events) < n:
            self.events.append(self.queue.get(timeout=timeout))
        return self

    @property
    def token_events(self) -> list[TokenEvent]:
        return [e for e in self.events if isinstance(e, TokenEvent)]

    @property
    def tokens(self) -> list[int]:
        return [e.token for e in self.token_events]

    @property
    def progress(self) -> list[PrefillProgress]:
        return [e for e in self.events if isinstance(e, PrefillProgress)]

    @property
    def finish(self) -> FinishEvent:
        last = self.events[-1]
        assert isinstance(last, FinishEvent)
        return last


def submit(engine: Engine, prompt: Sequence[int], **fields: object) -> tuple[int, Outcome]:
    matchers = {k: fields.pop(k) for k in ("constraint", "stop") if k in fields}
    outcome = Outcome()
    fields.setdefault("sampling", GREEDY)
    request = GenerationRequest(prompt=tuple(prompt), **fields)  # type: ignore[arg-type]
    return engine.submit(request, outcome.queue.put, **matchers), outcome  # type: ignore[arg-type]


def generate(engine: Engine, prompt: Sequence[int], **fields: object) -> Outcome:
    return submit(engine, prompt, **fields)[1].wait()


def prompt_of(seed: int, n: int) -> list[int]:
    """Return `n` seeded random byte tokens."""
    return [int(t) for t in np.random.default_rng(seed).integers(1, 200, n)]


def greedy_reference(
    model: Model,
    prompt: Sequence[int],
    n: int,
    kv_type: str = "f16",
    adapters: Sequence[tuple[LoraAdapter, float]] = (),
) -> list[int]:
    """Generate greedily with a bare loop, one sequence, one token at a time; stops at the end of the turn."""
    params = ContextParams(n_ctx=2048, n_threads=1, kv_type_k=kv_type, kv_type_v=kv_type)
    with Context(model, params) as context:
        context.set_adapters(adapters)
        batch = Batch(context.n_batch)
        index = batch.add_run(prompt, 0, 0, last_wants_logits=True)
        tokens: list[int] = []
        while True:
            assert context.decode(batch) == 0
            token = int(context.logits(index).argmax())
            if model.vocab.is_eog(token):
                return tokens
            tokens.append(token)
            if len(tokens) == n:
                return tokens
            batch.clear()
            index = batch.add(token, len(prompt) + len(tokens) - 1, 0, wants_logits=True)


def sliding_reference(model: Model, prompt: Sequence[int], n: int, window: Window, kv_type: str = "q8_0") -> list[int]:
    """Generate greedily, never ending, with a bare loop that slides as `window` says, one token at a time."""
    params = ContextParams(n_ctx=window.n_ctx, n_threads=1, kv_type_k=kv_type, kv_type_v=kv_type)
    with Context(model, params) as context:
        batch = Batch(1)
        tokens = list(prompt)
        n_cells = 0
        for place in range(len(prompt) + n - 1):
            if n_cells == window.n_ctx:
                first_kept = window.n_head + window.n_step
                context.memory.remove(0, window.n_head, first_kept)
                context.memory.shift(0, first_kept, -1, -window.n_step)
                n_cells -= window.n_step
            batch.clear()
            batch.add(tokens[place], n_cells, 0, wants_logits=True)
            assert context.decode(batch) == 0
            n_cells += 1
            if place >= len(prompt) - 1:
                logits = context.logits(0).copy()
                logits[list(model.vocab.eog_tokens)] = -np.inf
                tokens.append(int(logits.argmax()))
        return tokens[len(prompt) :]


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
