"""Running the application on a socket."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from localllm.errors import RequestError
from localllm.server.protocol import bounded_protocol
from localllm.server.settings import ServerSettings

log = logging.getLogger("localllm.server")

_BACKLOG = 1024
_FAREWELL_S = 10.0
"""After the models were closed, what still runs may say so to its clients for this long."""
_OTHER_FILES = 512
"""File descriptors that connections must leave for workers, models and libraries."""


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
    except (OSError, UnicodeError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"Cannot listen on {settings.host}:{settings.port}: {reason}.",
            hint="Choose another port with --port; 0 takes any that is free.",
        ) from error
    return sock


def check_tls(settings: ServerSettings) -> None:
    """See whether the certificate and its key can be used.

    Raises:
        RequestError: they cannot.
    """
    if settings.tls_cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"Cannot use the certificate {settings.tls_cert} with the key {settings.tls_key}: {reason}.",
            hint="Both must be PEM files, and belong together.",
        ) from error


def make_server(
    app: ASGIApp,
    settings: ServerSettings,
    *,
    on_start: Callable[[], None] | None = None,
    on_overdue: Callable[[], Awaitable[None]] | None = None,
) -> Server:
    """Return a server, ready to run on a socket from `bound_socket`.

    Args:
        app: see `create_app`.
        settings: see there.
        on_start: called when connections are accepted.
        on_overdue: called when running answers take longer than `settings.shutdown_s`; it must make them end.

    Raises:
        RequestError: the TLS files cannot be used.
    """
    check_tls(settings)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings, _max_connections(settings)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(settings.shutdown_s + _FAREWELL_S),
        ssl_certfile=str(settings.tls_cert) if settings.tls_cert else None,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
    )
    return Server(config, settings.shutdown_s, on_start, on_overdue)


class Server(uvicorn.Server):
    """Serves until the process is told to stop, then lets running answers end. A second signal ends it at once."""

    def __init__(
        self,
        config: uvicorn.Config,
        shutdown_s: float,
        on_start: Callable[[], None] | None,
        on_overdue: Callable[[], Awaitable[None]] | None,
    ) -> None:
        super().__init__(config)
        self._shutdown_s = shutdown_s
        self._on_start = on_start
        self._on_overdue = on_overdue

    def ask_to_stop(self) -> None:
        """Let running answers end, and then the server; from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._on_start is not None:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        overdue = asyncio.create_task(self._end_overdue())
        try:
            await super().shutdown(sockets)
        finally:
            overdue.cancel()

    async def _end_overdue(self) -> None:
        await asyncio.sleep(self._shutdown_s)
        if self._on_overdue is not None and self.server_state.tasks:
            log.warning("%d answers are ended", len(self.server_state.tasks))
            await self._on_overdue()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a stop that was asked for is a success: the signal is not raised again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            # Workers see the end of their stdin, and end too.
            os._exit(128 + sig)
        self.should_exit = True


def _max_connections(settings: ServerSettings) -> int:
    """Return how many connections may be open: more than requests, fewer than the system's limit on open files."""
    wanted = settings.max_requests + _OTHER_FILES
    available = _raised_file_limit(2 * wanted)
    return min(wanted, max(available - _OTHER_FILES, available // 2))


def _raised_file_limit(wanted: int) -> int:
    """Return how many files this process may have open, after asking for `wanted`."""
    resource: Any
    try:
        import resource
    except ImportError:  # Windows, where sockets are not files
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, soft), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else int(soft)
