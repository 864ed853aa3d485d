"""Routes that take a body for JSON whatever its Content-Type says, as Ollama and llama-server do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from starlette.responses import Response

from localllm.server.routes.router import StrictRoute

_JSON = (b"content-type", b"application/json")


class LenientRoute(StrictRoute):
    """A route for clients that do not say what they send; `curl -d` says that it is a form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_as_json(request: Request) -> Response:
            others = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
            request.scope["headers"] = [*others, _JSON]
            return await handle(Request(request.scope, request.receive))

        return handle_as_json
