"""The worker process: one model, one engine, commands on stdin, events on stdout. Run as `-m localllm.runtime.worker`.

Events of a step are written together. When stdin ends, so does the process, which gives all memory back.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from localllm.engine.events import ErrorInfo, Event
from localllm.errors import LocalLLMError
from localllm.runtime.local import LocalBackend
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
    frame,
    read_frame,
    to_worker_decoder,
)

log = logging.getLogger("localllm.worker")


class _Outbox:
    """Frames on their way out. `post` writes at once; `hold` waits for `flush`, which ends a step."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held = bytearray()
        self._lock = threading.Lock()

    def post(self, message: FromWorker) -> None:
        with self._lock:
            self._held += frame(message)
            self._write()

    def hold(self, message: Event) -> None:
        with self._lock:
            self._held += frame(message)

    def flush(self) -> None:
        if self._held:
            with self._lock:
                self._write()

    def _write(self) -> None:
        data, self._held = bytes(self._held), bytearray()
        try:
            self._stream.write(data)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            os._exit(0)


def describe_error(error: BaseException) -> ErrorInfo:
    """Return an error as a value; one that is not ours becomes an EngineError that names it."""
    if isinstance(error, LocalLLMError):
        return ErrorInfo(type(error).__name__, error.message, error.hint)
    return ErrorInfo("EngineError", f"{type(error).__name__}: {error}", "This is a bug; please report it.")


def serve(commands: BinaryIO, outbox: _Outbox) -> None:
    """Load the model that the first command names, then serve commands until they end."""
    first = read_frame(commands)
    if first is None:
        return
    load = to_worker_decoder.decode(first)
    assert isinstance(load, Load)
    try:
        backend = LocalBackend(
            Path(load.path), load.options, on_progress=_ProgressFilter(outbox), after_step=outbox.flush
        )
    except Exception as error:
        log.debug("load failed", exc_info=True)
        outbox.post(LoadFailed(describe_error(error)))
        return
    outbox.post(Loaded(backend.info))
    while (body := read_frame(commands)) is not None:
        _answer(backend, outbox, body)
    backend.close()


class _ProgressFilter:
    """Passes a load's progress on in steps of a hundredth."""

    def __init__(self, outbox: _Outbox) -> None:
        self._outbox = outbox
        self._last = -1

    def __call__(self, share: float) -> None:
        if int(share * 100) != self._last:
            self._last = int(share * 100)
            self._outbox.post(LoadProgress(share))


def _answer(backend: LocalBackend, outbox: _Outbox, body: bytes) -> None:
    command = to_worker_decoder.decode(body)
    if isinstance(command, Cancel):
        backend.cancel(command.request_id)
        return
    call_id = command.request_id if isinstance(command, Submit) else getattr(command, "call_id", 0)
    try:
        reply = Reply(call_id)
        if isinstance(command, Submit):
            backend.submit(command.request, command.controls, outbox.hold, request_id=call_id)
        elif isinstance(command, Tokenize):
            reply.tokens = backend.tokenize(
                command.text, add_special=command.add_special, parse_special=command.parse_special
            )
        elif isinstance(command, GetStats):
            reply.stats = backend.stats()
    except Exception as error:
        log.debug("command failed", exc_info=True)
        reply = Reply(call_id, error=describe_error(error))
    outbox.post(reply)


def main() -> None:
    """Keep stdout for frames: whatever a library prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if os.environ.get("LOCALLLM_DEBUG"):
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    try:
        serve(sys.stdin.buffer, _Outbox(out))
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
