"""The application: its routes, what guards them, and what happens to errors."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localllm import __version__
from localllm.errors import LocalLLMError
from localllm.server.admission import Admission
from localllm.server.errors import Problem, error_body, problem_of
from localllm.server.manager import ModelManager
from localllm.server.metrics import Metrics
from localllm.server.openapi import describe
from localllm.server.routes import (
    chat,
    embeddings,
    messages,
    models,
    native,
    ollama,
    ollama_models,
    operations,
    pages,
    responses,
    status,
    tokens,
)
from localllm.server.security import Gate
from localllm.server.services import Services
from localllm.server.settings import ServerSettings
from localllm.server.wire.frames import to_json

access_log = logging.getLogger("localllm.access")
log = logging.getLogger("localllm.server")

_ROUTERS = (
    chat.router,
    messages.router,
    responses.router,
    embeddings.router,
    models.router,
    tokens.router,
    native.router,
    ollama.router,
    ollama_models.router,
    operations.router,
    status.router,
    pages.router,
)
_MAX_SHOWN = 200
_OK = 200
_WATCHING = ("/health", "/v1/health", "/metrics", "/v1/admin/status")
"""Asked again and again by those who watch the server: their lines would bury all others."""
_OTHER_THREADS = 32
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
    # A request blocks one thread at most. With a thread for each, a worker that hangs holds up no other model.
    n_threads = services.settings.max_requests + _OTHER_THREADS
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(n_threads, "localllm-request"))
    services.manager.start()
    try:
        yield
    finally:
        await services.manager.close()


def _respond(path: str, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    more = {"retry-after": str(problem.retry_after_s)} if problem.retry_after_s is not None else {}
    body = to_json(error_body(path, problem))
    return Response(body, problem.status, {**more, **(headers or {})}, "application/json")


async def _on_error(request: Request, error: Exception) -> Response:
    return _respond(request.url.path, problem_of(error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        message, param = f"The body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}.", None
    else:
        where = [str(part) for part in first["loc"] if part != "body"]
        param = ".".join(where)[:_MAX_SHOWN] or None
        message = f"{param or 'The body'}: {first['msg']}."
    return _respond(request.url.path, Problem(400, "invalid_request_error", "invalid_request", message, param))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, LocalLLMError):
        # FastAPI wraps what is raised while it reads a body.
        return _respond(request.url.path, problem_of(error.__cause__))
    if error.status_code == 404:
        message = f"There is nothing at {request.url.path[:_MAX_SHOWN]}. See /docs."
    elif error.__cause__ is not None:
        message = f"The body cannot be read ({type(error.__cause__).__name__})."
    else:
        message = str(error.detail)
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
                # Anthropic's clients read the shorter name.
                ids = [(name, request_id.encode()) for name in (b"x-request-id", b"request-id")]
                message["headers"] = [*message.get("headers", ()), *ids]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log.error("request %s failed", request_id, exc_info=error)
            if not status:
                raise
        finally:
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "duration_s": round(time.monotonic() - started, 3),
                "client": scope["client"][0] if scope.get("client") else None,
            }
            level = logging.DEBUG if scope["path"] in _WATCHING and status == _OK else logging.INFO
            access_log.log(level, "request", extra={"fields": fields})
