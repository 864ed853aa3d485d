"""A model in a worker process of its own: what crashes there is an error here."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from localllm import errors
from localllm.engine.events import ErrorInfo, Event, FinishEvent, PrefillProgress, Timings, TokenEvent, Usage
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.errors import EngineClosed, LocalLLMError, ModelLoadFailed, WorkerCrashed
from localllm.hardware.types import LoadOptions
from localllm.runtime.backend import ModelInfo, Sink, TextControls
from localllm.runtime.protocol import (
    Cancel,
    FromWorker,
    GetStats,
    Load,
    Loaded,
    LoadFailed,
    LoadProgress,
    Reply,
    Submit,
    Tokenize,
    ToWorker,
    frame,
    from_worker_decoder,
    read_frame,
)

_CLOSE_TIMEOUT_S = 5.0


def error_from_info(info: ErrorInfo) -> LocalLLMError:
    """Return the error that the value describes, of its own class where there is one."""
    kind = getattr(errors, info.kind, None)
    if not (isinstance(kind, type) and issubclass(kind, LocalLLMError)):
        kind = errors.EngineError
    return kind(info.message, hint=info.hint)


class WorkerBackend:
    """Starts the worker, waits for the load, then passes requests in and events out.

    Raises:
        ModelError, NotEnoughMemory, RequestError: see `open_backend`.
    """

    def __init__(self, path: Path, options: LoadOptions, *, on_progress: Callable[[float], None] | None = None) -> None:
        self._path = path
        self._on_progress = on_progress
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._sinks: dict[int, Sink] = {}
        self._calls: dict[int, queue.SimpleQueue[Reply]] = {}
        self._stderr: deque[str] = deque(maxlen=80)
        self._loaded: queue.SimpleQueue[ModelInfo | LocalLLMError] = queue.SimpleQueue()
        self._closing = False
        self._crash: WorkerCrashed | None = None
        self._process = _spawn()
        self._stderr_thread = _start(self._read_stderr)
        self._reader = _start(self._read_events)
        self._info = self._load(options)

    def _load(self, options: LoadOptions) -> ModelInfo:
        with contextlib.suppress(WorkerCrashed):
            self._send(Load(str(self._path), options))
        try:
            result = self._loaded.get()
        except BaseException:
            self.close()
            raise
        if isinstance(result, LocalLLMError):
            self.close()
            raise result
        return result

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self._call(lambda call_id: Tokenize(call_id, text, add_special, parse_special)).tokens or []

    def stats(self) -> EngineStats:
        stats = self._call(GetStats).stats
        assert stats is not None
        return stats

    def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
        def make(request_id: int) -> ToWorker:
            self._sinks[request_id] = sink
            return Submit(request_id, request, controls)

        return self._call(make).call_id

    def cancel(self, request_id: int) -> None:
        if request_id in self._sinks:
            with contextlib.suppress(WorkerCrashed):
                self._send(Cancel(request_id))

    def close(self) -> None:
        with self._lock:
            self._closing = True
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _call(self, make: Callable[[int], ToWorker]) -> Reply:
        """Send a message that is answered, and wait for the answer; an error in it is raised."""
        inbox: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        with self._lock:
            if self._crash is not None:
                raise WorkerCrashed(self._crash.message, hint=self._crash.hint)
            if self._closing:
                raise EngineClosed("The model was closed.", hint="Load it again.")
            call_id = next(self._ids)
            self._calls[call_id] = inbox
            message = make(call_id)
            self._write(message)
        reply = inbox.get()
        if reply.error is not None:
            self._sinks.pop(call_id, None)
            raise error_from_info(reply.error)
        return reply

    def _send(self, message: ToWorker) -> None:
        with self._lock:
            self._write(message)

    def _write(self, message: ToWorker) -> None:
        """Write a frame. A broken pipe is no error here: the reader sees the end and answers every open call."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(frame(message))
            self._process.stdin.flush()

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            self._stderr.append(line)
            if os.environ.get("LOCALLLM_DEBUG"):
                sys.stderr.write(f"worker: {line}\n")

    def _read_events(self) -> None:
        assert self._process.stdout is not None
        while True:
            body = read_frame(self._process.stdout)  # type: ignore[arg-type]
            if body is None:
                break
            self._dispatch(from_worker_decoder.decode(body))
        self._process.wait()
        self._stderr_thread.join()
        self._end_everything()

    def _dispatch(self, message: FromWorker) -> None:
        if isinstance(message, TokenEvent | PrefillProgress):
            self._deliver(message)
        elif isinstance(message, FinishEvent):
            self._deliver(message)
            self._sinks.pop(message.request_id, None)
        elif isinstance(message, Reply):
            self._calls.pop(message.call_id).put(message)
        elif isinstance(message, Loaded):
            self._loaded.put(message.info)
        elif isinstance(message, LoadFailed):
            self._loaded.put(error_from_info(message.error))
        elif isinstance(message, LoadProgress) and self._on_progress is not None:
            self._on_progress(message.share)

    def _deliver(self, event: Event) -> None:
        sink = self._sinks.get(event.request_id)
        if sink is not None:
            sink(event)

    def _end_everything(self) -> None:
        """The worker is gone: fail what waits for it, each with the reason."""
        crash = WorkerCrashed(
            f"The worker process for {self._path.name} ended: {self._reason()}.", hint="Load the model again."
        )
        with self._lock:
            closed = self._closing
            self._crash = crash
            calls, self._calls = self._calls, {}
            sinks, self._sinks = self._sinks, {}
        info = ErrorInfo("WorkerCrashed", crash.message, crash.hint)
        for call_id, inbox in calls.items():
            sinks.pop(call_id, None)
            inbox.put(Reply(call_id, error=info))
        for request_id, sink in sinks.items():
            sink(_ended(request_id, None if closed else info))
        self._loaded.put(
            ModelLoadFailed(
                f"llama.cpp ended while it loaded {self._path.name}: {self._reason()}.",
                hint="The file is damaged, or this llama.cpp cannot run it; try another file.",
            )
        )

    def _reason(self) -> str:
        """Return llama.cpp's last words, else how the process ended."""
        for line in self._stderr:
            if "GGML_ASSERT" in line or "terminate called" in line or "what():" in line or "error" in line.lower():
                return line.strip().rstrip(".")
        code = self._process.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"


def _spawn() -> subprocess.Popen[bytes]:
    env = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "localllm.runtime.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=os.name == "posix",
    )


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"localllm-{target.__name__.strip('_')}", daemon=True)
    thread.start()
    return thread


def _ended(request_id: int, error: ErrorInfo | None) -> FinishEvent:
    return FinishEvent(
        request_id,
        "cancelled" if error is None else "error",
        Usage(prompt_tokens=0, completion_tokens=0, cached_tokens=0),
        Timings(queue_s=0.0, ttft_s=0.0, prefill_s=0.0, decode_s=0.0, prefill_tok_s=0.0, decode_tok_s=0.0),
        error=error,
    )
