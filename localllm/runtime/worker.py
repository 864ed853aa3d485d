"""The worker process: one model, one engine, commands on stdin, events on stdout. Run as `-m localllm.runtime.worker`.

Events of a step are written together. When stdin ends, so does the process, which gives all memory back.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import BinaryIO

from localllm.engine.events import ErrorInfo, Event
from localllm.engine.vectors import VectorsEvent
from localllm.runtime.local import LocalBackend
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
    frame,
    read_frame,
    to_worker_decoder,
)

log = logging.getLogger("localllm.worker")

_FAREWELL_S = 10.0
"""After its parent is gone, the process ends within this time, even if a computation hangs."""


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

    def hold(self, message: Event | VectorsEvent) -> None:
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


class _Inbox:
    """Commands, read on a thread of their own, so that the parent's end is noticed whatever this process is doing."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._commands: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        self.is_loading = True
        threading.Thread(target=self._read, name="localllm-commands", daemon=True).start()

    def next(self) -> ToWorker | None:
        """Return the next command; None when there will be no more."""
        return self._commands.get()

    def _read(self) -> None:
        try:
            while (body := read_frame(self._stream)) is not None:
                self._commands.put(to_worker_decoder.decode(body))
        except Exception:
            traceback.print_exc()
        self._commands.put(None)
        if not self.is_loading:
            time.sleep(_FAREWELL_S)
        os._exit(0)


def serve(inbox: _Inbox, outbox: _Outbox) -> None:
    """Load the model that the first command names, then serve commands until they end."""
    load = inbox.next()
    if load is None:
        return
    assert isinstance(load, Load)
    try:
        backend = LocalBackend(
            Path(os.fsdecode(load.path)), load.options, on_progress=_ProgressFilter(outbox), after_step=outbox.flush
        )
    except Exception as error:
        log.debug("load failed", exc_info=True)
        outbox.post(LoadFailed(ErrorInfo.of(error)))
        return
    inbox.is_loading = False
    outbox.post(Loaded(backend.info))
    while (command := inbox.next()) is not None:
        _answer(backend, outbox, command)
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


def _answer(backend: LocalBackend, outbox: _Outbox, command: ToWorker) -> None:
    if isinstance(command, Cancel):
        backend.cancel(command.request_id)
        return
    call_id = command.request_id if isinstance(command, Submit | Embed | Rank) else getattr(command, "call_id", 0)
    try:
        reply = Reply(call_id)
        if isinstance(command, Submit):
            backend.submit(command.request, command.controls, outbox.hold, request_id=call_id)
        elif isinstance(command, Embed):
            backend.embed(command.request, outbox.hold, request_id=call_id)
        elif isinstance(command, Rank):
            backend.rank(command.request, outbox.hold, request_id=call_id)
        elif isinstance(command, Tokenize):
            reply.tokens = backend.tokenize(
                command.text, add_special=command.add_special, parse_special=command.parse_special
            )
        elif isinstance(command, Detokenize):
            reply.data = backend.detokenize(command.tokens)
        elif isinstance(command, GetStats):
            reply.stats = backend.stats()
    except Exception as error:
        log.debug("command failed", exc_info=True)
        reply = Reply(call_id, error=ErrorInfo.of(error))
    outbox.post(reply)


def main() -> None:
    """Keep stdout for frames: whatever a library prints goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if os.environ.get("LOCALLLM_DEBUG"):
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    code = 1
    try:
        serve(_Inbox(sys.stdin.buffer), _Outbox(out))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
