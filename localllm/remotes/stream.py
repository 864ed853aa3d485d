"""A streamed answer, read on a thread of its own: waiting for it can be interrupted, and silence noticed."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Any

from localllm.errors import AnswerBroken, LocalLLMError, ServerError
from localllm.remotes.deltas import Silence
from localllm.remotes.sse import EventTooLong, SseParser
from localllm.remotes.wire import PIECE_BYTES, Wire

_QUEUED_MAX = 1024
_LOOK_S = 0.2
_KINDS = ("application/json", "text/event-stream")


class AnswerStream:
    """The data of a stream's events, in order. `close` may be called from any thread, and more than once.

    Args:
        wire: the server.
        path: what is posted to.
        body: JSON.
    """

    def __init__(self, wire: Wire, path: str, body: Any) -> None:
        self._wire = wire
        self._path = path
        self._body = body
        self._queue: Queue[str | LocalLLMError | None] = Queue(_QUEUED_MAX)
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        threading.Thread(target=self._read, name="remote-answer", daemon=True).start()

    def __iter__(self) -> Iterator[str | Silence]:
        """Yield events' data until the stream ends, and a Silence each time that nothing came for a while.

        Raises:
            LocalLLMError: it broke; what came before was yielded.
        """
        heard_s = time.monotonic()
        noted_s = heard_s
        while not self._closed.is_set():
            try:
                # A thread that waits without end is not interrupted on Windows.
                item = self._queue.get(timeout=_LOOK_S)
            except Empty:
                now_s = time.monotonic()
                if now_s - noted_s >= self._wire.patience.note_s:
                    noted_s = now_s
                    yield Silence(now_s - heard_s)
                continue
            if item is None:
                return
            if isinstance(item, LocalLLMError):
                raise item
            heard_s = noted_s = time.monotonic()
            yield item

    def close(self) -> None:
        """Hang up: the server sees it, and stops."""
        self._closed.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        last: LocalLLMError | None = None
        try:
            self._read_answer()
        except LocalLLMError as error:
            last = error
        except Exception as error:  # A thread's exception would be lost, and its reader wait for ever.
            last = ServerError(f"{type(error).__name__}: {error} (this is a bug)", hint="Please report it.")
        self._put(last)

    def _read_answer(self) -> None:
        connection = self._wire.connect()
        self._socket = connection.sock
        try:
            if not self._closed.is_set():
                self._read_response(connection)
        finally:
            connection.close()

    def _read_response(self, connection: http.client.HTTPConnection) -> None:
        wire, patience = self._wire, self._wire.patience
        sock = connection.sock
        with wire.ask(connection, "POST", self._path, self._body, patience.first_s) as response:
            kind = (response.headers.get("content-type") or "").partition(";")[0].strip().lower()
            if response.status != 200:
                sock.settimeout(patience.answer_s)
                data = wire.read_all(response, connection, time.monotonic() + patience.answer_s)
                raise wire.refusal(response, self._path, data)
            if kind not in _KINDS:
                raise wire.not_ours(f"answers with {kind or 'something nameless'}")
            if kind == "application/json":
                self._put(
                    wire.read_all(response, connection, time.monotonic() + patience.first_s).decode("utf-8", "replace")
                )
            else:
                self._read_events(response, sock)

    def _read_events(self, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        parser, limit_s = SseParser(), self._wire.patience.first_s
        try:
            # The first event may take as long as the prompt.
            while piece := response.read1(PIECE_BYTES):
                for data in parser.feed(piece):
                    self._put(data)
                limit_s = self._wire.patience.silence_s
                sock.settimeout(limit_s)
            for data in parser.flush():
                self._put(data)
        except TimeoutError as error:
            raise self._wire.silent(limit_s) from error
        except (OSError, http.client.HTTPException) as error:
            raise AnswerBroken(f"{self._wire.name} broke off the connection.", hint=_AGAIN) from error
        except EventTooLong as error:
            raise ServerError(
                f"{self._wire.name} sends {error}.", hint="It is not an OpenAI-compatible server."
            ) from error

    def _put(self, item: str | LocalLLMError | None) -> None:
        while not self._closed.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=_LOOK_S)
                return


_AGAIN = "It may have ended or crashed. What came before is kept; ask again when it runs."
