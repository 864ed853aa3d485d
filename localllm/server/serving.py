"""Running the application on a socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from localllm.errors import RequestError
from localllm.server.settings import ServerSettings

_BACKLOG = 1024


def bound_socket(settings: ServerSettings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Raises:
        RequestError: the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise RequestError(
            f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
            hint="Choose another port with --port; 0 takes any that is free.",
        ) from error
    return sock


def serve(
    app: ASGIApp, settings: ServerSettings, sock: socket.socket, *, on_start: Callable[[], None] | None = None
) -> None:
    """Serve until the process is told to stop, then let running answers end.

    Args:
        app: see `create_app`.
        settings: see there.
        sock: from `bound_socket`; closed at the end.
        on_start: called when connections are accepted.
    """
    config = uvicorn.Config(
        app,
        http=_patient_for(settings.header_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.shutdown_s),
        ssl_certfile=str(settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
    )
    _Server(config, on_start).run(sockets=[sock])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()


def _patient_for(header_timeout_s: float) -> type[HttpToolsProtocol]:
    """Return a protocol that hangs up on clients whose headers do not arrive in time (slow loris)."""

    class Protocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(header_timeout_s, self._hang_up)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            if self._deadline is None:
                self._deadline = self.loop.call_later(header_timeout_s, self._hang_up)

        def on_headers_complete(self) -> None:
            self._forget_deadline()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget_deadline()
            super().connection_lost(exc)

        def _hang_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

        def _forget_deadline(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Protocol
