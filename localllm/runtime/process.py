"""The worker process as its parent sees it: frames in and out, and how it ended.

Nothing here waits for the worker but `finish`: what is sent is queued, so that a sink may cancel from the reader's
thread while another thread sends a long prompt.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable

from localllm.gguf import printable
from localllm.runtime.protocol import FromWorker, ToWorker, frame, from_worker_decoder, read_frame

log = logging.getLogger("localllm.worker")

_EXIT_TIMEOUT_S = 5.0
_MAX_REASON_CHARS = 400
_LAST_WORDS = ("what():", "GGML_ASSERT", "CUDA error", ".cpp:", ".cu:", ".m:", "terminate called", "Error: ")
"""What marks the line of a crash's output that says most, the best first."""


class WorkerProcess:
    """A started worker.

    Args:
        on_message: called with each message, on the reader's thread.
        on_end: called once, on the same thread, when the process is gone and all its messages were passed on.
    """

    def __init__(self, on_message: Callable[[FromWorker], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr: deque[str] = deque(maxlen=80)
        self._fault: str | None = None
        self._popen = _spawn()
        self._stderr_reader = _start(self._read_stderr)
        self._writer = _start(self._write)
        self._reader = _start(self._read)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, message: ToWorker) -> None:
        """Queue a message. If the worker is gone it is dropped: `on_end` says so."""
        self._outgoing.put(frame(message))

    def kill(self) -> None:
        """End the process now."""
        self._popen.kill()

    def finish(self, timeout_s: float = _EXIT_TIMEOUT_S) -> None:
        """Let the worker end what it does, or kill it after `timeout_s`; return when nothing of it is left."""
        self._outgoing.put(None)
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    @property
    def was_killed(self) -> bool:
        """Whether it ended by SIGKILL, which is also how Linux takes a process when memory runs out."""
        return os.name == "posix" and self._fault is None and self._popen.returncode == -signal.SIGKILL

    def reason(self) -> str:
        """Return what the process said last, else how it ended, as one line."""
        if self._fault is not None:
            return self._fault
        lines = list(self._stderr)
        if self._popen.returncode != 0 and not self.was_killed:
            for mark in _LAST_WORDS:
                at = next((i for i in reversed(range(len(lines))) if mark in lines[i]), None)
                if at is not None:
                    # ggml says what was wrong, and only then where it gave up: "ops.cpp:571: fatal error".
                    is_bare = lines[at].endswith(": fatal error") and at > 0
                    return _shown(lines[at - 1] if is_bare else lines[at])
        return self._exit_status()

    def _exit_status(self) -> str:
        code = self._popen.returncode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(-code).name}"
        return f"exit code {code}"

    def _write(self) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError), self._popen.stdin as stdin:
            while (data := self._outgoing.get()) is not None:
                stdin.write(data)
                stdin.flush()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        try:
            while (body := read_frame(self._popen.stdout)) is not None:  # type: ignore[arg-type]
                self._on_message(from_worker_decoder.decode(body))
        except Exception as error:
            log.exception("the worker's messages cannot be read")
            self._fault = f"its messages could not be read ({type(error).__name__}: {error})"
            self._popen.kill()
        self._reap()
        self._on_end()

    def _reap(self) -> None:
        """Wait for the process, and leave no pipe and no other thread behind."""
        assert self._popen.stdout is not None and self._popen.stderr is not None
        self._popen.stdout.close()
        try:
            self._popen.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._outgoing.put(None)
        self._writer.join()
        # A grandchild could keep stderr open for ever.
        self._stderr_reader.join(_EXIT_TIMEOUT_S)

    def _read_stderr(self) -> None:
        assert self._popen.stderr is not None
        with self._popen.stderr as stderr:
            for raw in stderr:
                line = raw.decode("utf-8", "replace").rstrip()
                self._stderr.append(line)
                if os.environ.get("LOCALLLM_DEBUG"):
                    sys.stderr.write(f"worker: {line}\n")


def _shown(line: str) -> str:
    return printable(line.strip().removeprefix("what():").strip().rstrip("."), _MAX_REASON_CHARS)


def _spawn() -> subprocess.Popen[bytes]:
    """Start the interpreter with -P: a file named json.py in the current folder must not become part of it."""
    env = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "localllm.runtime.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=os.name == "posix",
    )


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, name=f"localllm-worker{target.__name__}", daemon=True)
    thread.start()
    return thread
