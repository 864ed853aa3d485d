"""What every request passes before its content is looked at: host, origin, key, size, and time to send it.

Plain ASGI, since a middleware that copies the answer's stream would cost more than a token does.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localllm.server.errors import Refused, error_body, problem_of
from localllm.server.page import FILES
from localllm.server.settings import ServerSettings

OPEN_PATHS = frozenset({"/health", "/openapi.json", *FILES})
"""Paths that need no key: they tell nothing of models or conversations."""


class Gate:
    """Refuses what may not come in.

    Args:
        app: what lies behind.
        settings: who may come in.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            self._check_origin(headers)
            self._check_key(scope["path"], scope["method"], headers)
            self._check_length(headers)
        except Refused as error:
            await _refuse(error, scope, receive, send)
            return
        body = _BoundedBody(receive, self._settings)
        try:
            await self._app(scope, body, send)
        except Refused as error:
            await _refuse(error, scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._settings.accepts_host(host):
            raise Refused(
                403,
                "This server does not answer to the name in the Host header.",
                code="host_not_allowed",
                hint="Add it with --allow-host.",
            )

    def _check_origin(self, headers: Headers) -> None:
        """A browser sends an Origin along with what a page of that origin asks for."""
        origin = headers.get("origin")
        if origin is None or self.allows_origin(origin) or _is_same(origin, headers.get("host", "")):
            return
        raise Refused(
            403,
            "Pages of this origin may not use the server.",
            code="origin_not_allowed",
            hint="Add it with --cors-origin.",
        )

    def allows_origin(self, origin: str) -> bool:
        return "*" in self._settings.cors_origins or origin in self._settings.cors_origins

    def _check_key(self, path: str, method: str, headers: Headers) -> None:
        if path in OPEN_PATHS or method == "OPTIONS":
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key")
        if not self._settings.accepts_key(key):
            raise Refused(
                401,
                "The API key is missing or wrong.",
                code="invalid_api_key",
                hint='Send it as "Authorization: Bearer KEY" or "x-api-key: KEY".',
            )

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)


class _BoundedBody:
    """A `receive` that ends with 413 for a body that is too long, and with 408 for one that does not come."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive = receive
        self._left_bytes = settings.max_body_bytes
        self._max_bytes = settings.max_body_bytes
        self._until = time.monotonic() + settings.body_timeout_s
        self._is_complete = False

    async def __call__(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0)):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "The body did not arrive in time.", code="request_timeout") from None
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            if self._left_bytes < 0:
                raise _too_large(self._max_bytes)
            self._is_complete = not message.get("more_body", False)
        return message


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"The body is too large; {max_bytes:,} bytes are allowed.", code="request_too_large")


def _is_same(origin: str, host: str) -> bool:
    return urlsplit(origin).netloc.lower() == host.lower() and bool(host)


async def _refuse(error: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    problem = problem_of(error)
    headers = {"connection": "close"} if problem.status in (408, 413) else {}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    response = JSONResponse(error_body(scope["path"], problem), problem.status, headers)
    await response(scope, receive, send)
