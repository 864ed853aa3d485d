"""Routers whose bodies are read strictly."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute


def make_router(tag: str, prefix: str = "") -> APIRouter:
    """Return a router for one API; `tag` groups its paths on the page of all paths."""
    return APIRouter(tags=[tag], prefix=prefix, route_class=StrictRoute)


class _StrictRequest(Request):
    """A request whose JSON is the standard's: no NaN, no half of a surrogate pair, which no tokenizer could take."""

    async def json(self) -> Any:
        body = await self.body()
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise json.JSONDecodeError(str(error) or type(error).__name__, "", 0) from error


class StrictRoute(APIRoute):
    """A route that reads its body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
