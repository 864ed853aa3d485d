"""A model in a worker process of its own: what crashes there is an error here."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from localllm.engine.events import ErrorInfo, Event, FinishEvent, PrefillProgress, Timings, TokenEvent, Usage
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import VectorsEvent, VectorsSink
from localllm.errors import EngineClosed, LocalLLMError, ModelLoadFailed, WorkerCrashed
from localllm.hardware.types import LoadOptions
from localllm.runtime.backend import EmbedRequest, ModelInfo, RankRequest, Sink, TextControls, check_tokens
from localllm.runtime.process import WorkerProcess
from localllm.runtime.protocol import (
    Cancel,
    Detokenize,
    Embed,
    FromWorker,
    GetStats,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Rank,
    Reply,
    Submit,
    Tokenize,
    ToWorker,
)

log = logging.getLogger("localllm.runtime")

_AnyEvent = TypeVar("_AnyEvent", Event, VectorsEvent)
_CLOSED = ErrorInfo("EngineClosed", "The model was closed.", "Load it again.")
_OUT_OF_MEMORY_HINT = "If nobody ended it, the system did, for want of memory: try a smaller model or --n-ctx."


class WorkerBackend:
    """Starts the worker, waits for the load, then passes requests in and events out.

    A sink runs on the reader's thread: it may cancel, but a call that waits for an answer would wait for ever.

    Raises:
        ModelError, NotEnoughMemory, RequestError, WorkerCrashed: see `open_backend`.
    """

    def __init__(self, path: Path, options: LoadOptions, *, on_progress: Callable[[float], None] | None = None) -> None:
        self._path = path
        self._on_progress = on_progress
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._sinks: dict[int, Sink] = {}
        self._vector_sinks: dict[int, VectorsSink] = {}
        self._calls: dict[int, queue.SimpleQueue[Reply]] = {}
        self._loaded: queue.SimpleQueue[ModelInfo | BaseException] = queue.SimpleQueue()
        self._closing = False
        self._end: ErrorInfo | None = None
        self._process = WorkerProcess(self._dispatch, self._end_everything)
        self._info = self._load(options)

    def _load(self, options: LoadOptions) -> ModelInfo:
        try:
            self._process.send(Load(os.fsencode(self._path), options))
            result = self._loaded.get()
            if isinstance(result, BaseException):
                raise result
        except BaseException:
            self._process.kill()
            self.close()
            raise
        # A path need not be text, and text is what the worker's answer is made of.
        adapters = tuple(
            msgspec.structs.replace(adapter, path=str(spec.path))
            for adapter, spec in zip(result.adapters, options.adapters, strict=True)
        )
        return msgspec.structs.replace(result, path=str(self._path), adapters=adapters)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._end is None and not self._closing

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._call(lambda call_id: Tokenize(call_id, text, add_special, parse_special)).tokens or []

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        ids = tuple(tokens)
        check_tokens(ids, self._info.n_vocab)
        return self._call(lambda call_id: Detokenize(call_id, ids)).data

    def stats(self) -> EngineStats:
        stats = self._call(GetStats).stats
        assert stats is not None
        return stats

    def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
        check_tokens(request.prompt, self._info.n_vocab)
        return self._call(lambda request_id: Submit(request_id, request, controls), sink=sink).call_id

    def embed(self, request: EmbedRequest, sink: VectorsSink) -> int:
        return self._call(lambda request_id: Embed(request_id, request), vector_sink=sink).call_id

    def rank(self, request: RankRequest, sink: VectorsSink) -> int:
        return self._call(lambda request_id: Rank(request_id, request), vector_sink=sink).call_id

    def cancel(self, request_id: int) -> None:
        if request_id in self._sinks or request_id in self._vector_sinks:
            self._process.send(Cancel(request_id))

    def close(self) -> None:
        with self._lock:
            self._closing = True
        self._process.finish()

    def _call(
        self, make: Callable[[int], ToWorker], *, sink: Sink | None = None, vector_sink: VectorsSink | None = None
    ) -> Reply:
        """Send a message that is answered, and wait for the answer; an error in it is raised."""
        inbox: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        with self._lock:
            ended = _CLOSED if self._closing else self._end
            if ended is not None:
                raise ended.to_error()
            call_id = next(self._ids)
            message = make(call_id)
            self._calls[call_id] = inbox
            if sink is not None:
                self._sinks[call_id] = sink
            if vector_sink is not None:
                self._vector_sinks[call_id] = vector_sink
            try:
                self._process.send(message)
            except BaseException:
                del self._calls[call_id]
                self._forget(call_id)
                raise
        reply = inbox.get()
        if reply.error is not None:
            self._forget(call_id)
            raise reply.error.to_error()
        return reply

    def _forget(self, call_id: int) -> None:
        self._sinks.pop(call_id, None)
        self._vector_sinks.pop(call_id, None)

    # The reader's thread.

    def _dispatch(self, message: FromWorker) -> None:
        if isinstance(message, TokenEvent | PrefillProgress):
            self._deliver(message, self._sinks.get(message.request_id))
        elif isinstance(message, FinishEvent):
            self._deliver(message, self._sinks.pop(message.request_id, None))
        elif isinstance(message, VectorsEvent):
            self._deliver(message, self._vector_sinks.pop(message.request_id, None))
        elif isinstance(message, Reply):
            inbox = self._calls.pop(message.call_id, None)
            if inbox is not None:
                inbox.put(message)
        elif isinstance(message, Loaded):
            self._loaded.put(message.info)
        elif isinstance(message, LoadFailed):
            self._loaded.put(message.error.to_error())
        elif isinstance(message, LoadProgress) and self._on_progress is not None:
            try:
                self._on_progress(message.share)
            except BaseException as error:
                self._loaded.put(error)

    def _deliver(self, event: _AnyEvent, sink: Callable[[_AnyEvent], None] | None) -> None:
        if sink is None:
            return
        try:
            sink(event)
        except Exception:
            log.exception("a sink failed; its request is cancelled")
            self._process.send(Cancel(event.request_id))

    def _end_everything(self) -> None:
        """The worker is gone: fail what waits for it, each with the reason."""
        with self._lock:
            closed = self._closing
            self._end = end = _CLOSED if closed else self._crash()
            calls, self._calls = self._calls, {}
            sinks, self._sinks = self._sinks, {}
            vector_sinks, self._vector_sinks = self._vector_sinks, {}
        for call_id, inbox in calls.items():
            sinks.pop(call_id, None)
            vector_sinks.pop(call_id, None)
            inbox.put(Reply(call_id, error=end))
        for request_id, sink in sinks.items():
            self._deliver(_ended(request_id, None if closed else end), sink)
        for request_id, vector_sink in vector_sinks.items():
            self._deliver(VectorsEvent(request_id=request_id, reason="error", error=end), vector_sink)
        self._loaded.put(EngineClosed(_CLOSED.message, hint=_CLOSED.hint) if closed else self._load_crash())

    def _crash(self) -> ErrorInfo:
        message = f"The worker process for {self._path.name} ended: {self._process.reason()}."
        hint = f"Load the model again. {_OUT_OF_MEMORY_HINT}" if self._process.was_killed else "Load the model again."
        return ErrorInfo("WorkerCrashed", message, hint)

    def _load_crash(self) -> LocalLLMError:
        message = f"The worker process ended while it loaded {self._path.name}: {self._process.reason()}."
        if self._process.was_killed:
            return WorkerCrashed(message, hint=_OUT_OF_MEMORY_HINT)
        return ModelLoadFailed(message, hint="The file is damaged, or this llama.cpp cannot run it; try another file.")


def _ended(request_id: int, error: ErrorInfo | None) -> FinishEvent:
    return FinishEvent(
        request_id,
        "cancelled" if error is None else "error",
        Usage(prompt_tokens=0, completion_tokens=0, cached_tokens=0),
        Timings(queue_s=0.0, ttft_s=0.0, prefill_s=0.0, decode_s=0.0, prefill_tok_s=0.0, decode_tok_s=0.0),
        error=error,
    )
