"""HTTP on one connection, with a bound on everything that a client could do for ever.

uvicorn's protocol trusts its clients with their time and with the size of their headers. This one hangs up when headers
do not come or grow too long, when nobody reads an answer, and when a body goes on after its request was answered; and
it sends a client away when there are too many connections.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from localllm.server.errors import Overloaded, Refused, openai_error, problem_of
from localllm.server.settings import ServerSettings

_PHRASES = {431: "Request Header Fields Too Large", 503: "Service Unavailable"}


def bounded_protocol(settings: ServerSettings, max_connections: int) -> type[HttpToolsProtocol]:
    """Return the protocol class for connections, at most `max_connections` at once."""

    class Protocol(_BoundedProtocol):
        limits = settings
        limit_connections = max_connections

    return Protocol


class _BoundedProtocol(HttpToolsProtocol):
    limits: ServerSettings
    limit_connections: int
    _header_bytes = 0
    _has_headers = False
    _header_deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.limit_connections:
            self._send_away(Overloaded(f"{self.limit_connections} connections are open; no more are allowed."))
            return
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self._has_headers:
            self._header_bytes += len(data)
            self._expect_headers()
        super().data_received(data)
        if not self._has_headers and self._header_bytes > self.limits.max_header_bytes:
            limit = f"{self.limits.max_header_bytes:,} bytes are allowed"
            self._send_away(Refused(431, f"The headers are too large; {limit}.", code="headers_too_large"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        self._has_headers = True
        self._forget("_header_deadline")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._has_headers = False
        self._header_bytes = 0

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self.pipeline:
            # What is left of the body would have to be read before the connection can be used again.
            self.transport.close()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.call_later(self.limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget("_write_deadline")
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget("_header_deadline")
        self._forget("_write_deadline")
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._header_deadline is None:
            self._header_deadline = self.loop.call_later(self.limits.header_timeout_s, self._hang_up)

    def _hang_up(self) -> None:
        self._header_deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _send_away(self, error: Overloaded | Refused) -> None:
        """Answer before there is a request, and hang up."""
        problem = problem_of(error)
        body = json.dumps(openai_error(problem))
        again = f"retry-after: {problem.retry_after_s}\r\n" if problem.retry_after_s else ""
        self.transport.write(
            f"HTTP/1.1 {problem.status} {_PHRASES[problem.status]}\r\ncontent-type: application/json\r\n{again}"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
        )
        self.transport.close()

    def _forget(self, name: str) -> None:
        handle: asyncio.TimerHandle | None = getattr(self, name)
        if handle is not None:
            handle.cancel()
            setattr(self, name, None)
