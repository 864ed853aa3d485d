"""The application: its routes, what guards them, and what happens to errors."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localllm import __version__
from localllm.errors import LocalLLMError
from localllm.server.admission import Admission
from localllm.server.errors import Problem, Refused, error_body, problem_of
from localllm.server.manager import ModelManager
from localllm.server.metrics import Metrics
from localllm.server.openapi import describe
from localllm.server.routes import chat, models, operations, pages, status, tokens
from localllm.server.security import Gate
from localllm.server.services import Services
from localllm.server.settings import ServerSettings

access_log = logging.getLogger("localllm.access")
log = logging.getLogger("localllm.server")

_ROUTERS = (chat.router, models.router, tokens.router, operations.router, status.router, pages.router)
_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(settings: ServerSettings, manager: ModelManager) -> ASGIApp:
    """Return the whole server as an ASGI application. It closes `manager` when it shuts down."""
    admission = Admission(settings.max_requests)
    app = FastAPI(
        title="localllm",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
    )
    describe(app, settings)
    app.state.services = Services(settings, manager, Metrics(manager, admission), admission)
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(LocalLLMError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)
    inner: ASGIApp = app
    if settings.cors_origins:
        inner = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return _Log(Gate(inner, settings))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    services.manager.start()
    try:
        yield
    finally:
        await services.manager.close()


def _respond(path: str, problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    more = {"retry-after": str(problem.retry_after_s)} if problem.retry_after_s is not None else {}
    return JSONResponse(error_body(path, problem), problem.status, {**more, **(headers or {})})


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error)
    if problem.code == "internal_error":
        log.error("a request failed", exc_info=error)
    return _respond(request.url.path, problem)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        message, param = f"The body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}.", None
    else:
        where = [str(part) for part in first["loc"] if part != "body"]
        param = ".".join(where) or None
        message = f"{param or 'The body'}: {first['msg']}."
    return _respond(request.url.path, Problem(400, "invalid_request_error", "invalid_request", message, param))


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Refused):
        # FastAPI wraps what is raised while it reads a body.
        return _respond(request.url.path, problem_of(error.__cause__), {"connection": "close"})
    is_missing = error.status_code == 404
    message = f"There is nothing at {request.url.path}. See /docs." if is_missing else str(error.detail)
    code = _CODES.get(error.status_code, "bad_request")
    problem = Problem(error.status_code, "invalid_request_error", code, message)
    return _respond(request.url.path, problem, error.headers)


class _Log:
    """Gives each request an id and writes a line when it has ended; never what was asked or answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex[:16]
        started = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_s": round(time.monotonic() - started, 3),
                "client": scope["client"][0] if scope.get("client") else None,
            }
            access_log.info("request", extra={"fields": fields})
