"""What every request passes before its content is looked at: host, origin, key, size, and time to send it.

Plain ASGI, since a middleware that copies the answer's stream would cost more than a token does.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localllm.server.errors import Overloaded, Refused, error_body, problem_of
from localllm.server.page import FILES
from localllm.server.settings import ServerSettings
from localllm.server.wire.frames import to_json

_DRAIN_S = 2.0
"""How long a refused client may go on sending before it is hung up on."""

OPEN_PATHS = frozenset({"/health", "/v1/health", "/openapi.json", *FILES})
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
        self._budget = _Budget(max(settings.max_bodies_bytes, 2 * settings.max_body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        body = _BoundedBody(receive, self._settings, self._budget, is_complete=not has_body)
        answer = _Answer(send, None if "expect" in headers else body)
        try:
            self._check(scope, headers)
            await self._app(scope, body, answer)
        except (Refused, Overloaded) as error:
            if answer.has_begun:
                raise
            await _refuse(error, scope, answer)
        finally:
            body.give_back()

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers)
        self._check_origin(headers)
        self._check_key(scope["path"], scope["method"], headers)
        self._check_length(headers)

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


class _Answer:
    """A `send` that knows whether the answer has begun, and lets the client finish its body before the answer ends.

    A client that is cut off while it sends may never read why.
    """

    def __init__(self, send: Send, body: _BoundedBody | None) -> None:
        self._send = send
        self._body = body
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._body is not None and not self._body.is_complete:
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        self.has_begun = True
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self._body is not None and not self._body.is_complete:
            await self._send({**message, "more_body": True})
            await self._body.drain(_DRAIN_S)
            message = {**message, "body": b""}
        await self._send(message)


class _Budget:
    """Bytes that the bodies of all requests take together; used on the event loop only."""

    def __init__(self, n_bytes: int) -> None:
        self.left_bytes = n_bytes

    def take(self, n_bytes: int) -> None:
        if n_bytes > self.left_bytes:
            raise Overloaded("The bodies of the requests that are running take too much memory.", retry_after_s=5)
        self.left_bytes -= n_bytes


class _BoundedBody:
    """A `receive` that ends with an error for a body that is too much: 413 too long, 400 too many values, 408 too late,
    503 where all bodies together are."""

    def __init__(self, receive: Receive, settings: ServerSettings, budget: _Budget, *, is_complete: bool) -> None:
        self._receive = receive
        self._settings = settings
        self._budget = budget
        self._n_bytes = 0
        self._n_values = 0
        self._until = time.monotonic() + settings.body_timeout_s
        self.is_complete = is_complete

    async def __call__(self) -> Message:
        if self.is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(self._until - time.monotonic(), 0)):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "The body did not arrive in time.", code="request_timeout") from None
        if message["type"] == "http.request":
            self._count(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        return message

    async def drain(self, timeout_s: float) -> None:
        """Read on and forget: a client that is cut off while it sends would not see why."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.is_complete:
                    message = await self._receive()
                    self.is_complete = message["type"] == "http.disconnect" or not message.get("more_body", False)

    def give_back(self) -> None:
        self._budget.left_bytes += self._n_bytes
        self._n_bytes = 0

    def _count(self, data: bytes) -> None:
        if self._n_bytes + len(data) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)
        try:
            self._budget.take(len(data))
        except Overloaded:
            # Others need not wait until this client has been told.
            self.give_back()
            raise
        self._n_bytes += len(data)
        self._n_values += data.count(b",") + data.count(b"[") + data.count(b"{")
        if self._n_values > self._settings.max_body_values:
            limit = f"{self._settings.max_body_values:,} are allowed"
            raise Refused(400, f"The body has too many values; {limit}.", code="too_many_values")


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"The body is too large; {max_bytes:,} bytes are allowed.", code="request_too_large")


def _is_same(origin: str, host: str) -> bool:
    return urlsplit(origin).netloc.lower() == host.lower() and bool(host)


async def _refuse(error: Refused | Overloaded, scope: Scope, send: Send) -> None:
    problem = problem_of(error)
    headers = {"retry-after": str(problem.retry_after_s)} if problem.retry_after_s is not None else {}
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = to_json(error_body(scope["path"], problem))
    head = Response(body, problem.status, headers, "application/json")
    await send({"type": "http.response.start", "status": problem.status, "headers": head.raw_headers})
    await send({"type": "http.response.body", "body": body})
