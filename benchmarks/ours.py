"""Our side: the engine in this process or a worker process, and what each of its streams said and when."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localllm.engine import Engine, EngineStats, Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.hardware.types import LoadOptions, LoadPlan, MemoryEstimate, SpecMode
from localllm.llama import Model

WAIT_S = 300.0


@dataclass(frozen=True)
class Settings:
    """What both sides of every comparison have in common."""

    path: Path
    n_ctx: int
    n_slots: int
    n_threads: int
    kv_type: str
    n_batch: int
    n_ubatch: int
    seed: int
    worker: bool
    streams: tuple[int, ...] = (1, 4, 8)
    """How many at once, in part (b)."""
    spec: SpecMode = "off"
    """Ours; the others have no drafts."""

    @property
    def plan(self) -> LoadPlan:
        return LoadPlan(
            path=str(self.path),
            n_ctx=self.n_ctx,
            n_slots=self.n_slots,
            n_gpu_layers=0,
            kv_type_k=self.kv_type,
            kv_type_v=self.kv_type,
            n_batch=self.n_batch,
            n_ubatch=self.n_ubatch,
            n_threads=self.n_threads,
            estimate=MemoryEstimate(0, 0, 0),
            spec=self.spec,
        )


class Stream:
    """One request: its tokens, when the sink got them, and when another thread saw them (time.perf_counter)."""

    def __init__(self) -> None:
        self.request_id = 0
        self.started_s = 0.0
        self.made_s: list[float] = []
        self.seen_s: list[float] = []
        self.pieces: list[bytes] = []
        self.finish: FinishEvent | None = None
        self.has_first = threading.Event()
        self.is_done = threading.Event()

    @property
    def n_tokens(self) -> int:
        return len(self.made_s)

    @property
    def text(self) -> str:
        return b"".join(self.pieces).decode("utf-8", "replace")

    @property
    def ttft_s(self) -> float:
        """Until the sink had the first token."""
        return self.made_s[0] - self.started_s

    @property
    def last_s(self) -> float:
        return self.seen_s[-1]

    def wait(self) -> Stream:
        """Wait for the end.

        Raises:
            RuntimeError: the request failed or hangs.
        """
        if not self.is_done.wait(WAIT_S):
            raise RuntimeError("a request hangs")
        if self.finish is not None and self.finish.error is not None:
            raise RuntimeError(self.finish.error.message)
        return self

    def wait_first(self) -> None:
        if not self.has_first.wait(WAIT_S):
            raise RuntimeError("a request gives no token")


class EngineThread:
    """Runs functions on the engine's own thread, in its hook between steps.

    libgomp keeps a pool of threads for each thread that computes. With two pools it sees more threads than cores and
    all but stops spinning at its barriers, and is half as fast. So all that is compared must compute on one thread.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def between_steps(self) -> None:
        while not self._jobs.empty():
            self._jobs.get()()

    def call(self, engine: Engine, function: Callable[[], float]) -> float:
        """Return what `function` returns there; the engine must be idle."""
        results: queue.SimpleQueue[float | Exception] = queue.SimpleQueue()

        def job() -> None:
            try:
                results.put(function())
            except Exception as error:
                results.put(error)

        self._jobs.put(job)
        engine.cancel(0)
        result = results.get()
        if isinstance(result, Exception):
            raise result
        return result


class _Submitter(Protocol):
    def __call__(self, request: GenerationRequest, sink: Callable[[Event], None]) -> int: ...


class Ours:
    """Starts requests, and reads their events on one consumer thread, as a front end would."""

    def __init__(
        self,
        submit: _Submitter,
        cancel: Callable[[int], None],
        stats: Callable[[], EngineStats],
        close: Callable[[], None],
        engine: Engine | None = None,
        thread: EngineThread | None = None,
    ) -> None:
        self._submit = submit
        self.cancel = cancel
        self.stats = stats
        self._close = close
        self.engine = engine
        self._thread = thread
        self._inbox: queue.SimpleQueue[tuple[Stream, Event] | None] = queue.SimpleQueue()
        self._consumer = threading.Thread(target=self._consume, name="consumer", daemon=True)
        self._consumer.start()

    def start(self, prompt: list[int], n_tokens: int, *, cache_prompt: bool = False, hands_on: bool = True) -> Stream:
        """Submit a greedy request that does not stop at the end of a turn.

        Args:
            prompt: token ids.
            n_tokens: to generate.
            cache_prompt: may others reuse it, and may it reuse theirs.
            hands_on: another thread sees every token; False leaves that out, which takes 40 µs a token.
        """
        stream = Stream()
        request = GenerationRequest(
            prompt=tuple(prompt),
            max_tokens=n_tokens,
            sampling=SamplingParams(temperature=0.0),
            ignore_eos=True,
            cache_prompt=cache_prompt,
        )

        def sink(event: Event) -> None:
            if isinstance(event, TokenEvent):
                stream.made_s.append(time.perf_counter())
                if not hands_on:
                    return
            self._inbox.put((stream, event))

        stream.started_s = time.perf_counter()
        stream.request_id = self._submit(request, sink)
        return stream

    def run(self, prompt: list[int], n_tokens: int, *, cache_prompt: bool = False, hands_on: bool = True) -> Stream:
        return self.start(prompt, n_tokens, cache_prompt=cache_prompt, hands_on=hands_on).wait()

    def call_on_engine(self, function: Callable[[], float]) -> float:
        """Return what `function` returns on the engine's own thread; only for an engine in this process."""
        assert self._thread is not None and self.engine is not None
        return self._thread.call(self.engine, function)

    def _consume(self) -> None:
        while (item := self._inbox.get()) is not None:
            stream, event = item
            if isinstance(event, TokenEvent):
                stream.seen_s.append(time.perf_counter())
                stream.pieces.append(event.piece)
                stream.has_first.set()
            elif isinstance(event, FinishEvent):
                stream.finish = event
                stream.has_first.set()
                stream.is_done.set()

    def close(self) -> None:
        self._close()
        self._inbox.put(None)
        self._consumer.join()

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_ours(settings: Settings, model: Model) -> Ours:
    """Start our side; `model` is used unless it runs in a worker process, which loads its own."""
    if settings.worker:
        return _open_worker(settings)
    thread = EngineThread()
    engine = Engine(model, settings.plan, after_step=thread.between_steps)
    return Ours(engine.submit, engine.cancel, engine.stats, engine.close, engine, thread)


def _open_worker(settings: Settings) -> Ours:
    from localllm.runtime.backend import TextControls
    from localllm.runtime.client import WorkerBackend

    backend = WorkerBackend(
        settings.path,
        LoadOptions(
            n_ctx=settings.n_ctx,
            gpu_layers=0,
            n_slots=settings.n_slots,
            n_threads=settings.n_threads,
            kv_type_k=settings.kv_type,
            kv_type_v=settings.kv_type,
            n_batch=settings.n_batch,
            n_ubatch=settings.n_ubatch,
        ),
    )

    def submit(request: GenerationRequest, sink: Callable[[Event], None]) -> int:
        return backend.submit(request, TextControls(), sink)

    return Ours(submit, backend.cancel, backend.stats, backend.close)
