"""One request for numbers, from its model's lease to its answer: vectors, scores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response

from localllm.llm.model import LLM
from localllm.server.answering import CLIENT_GONE
from localllm.server.errors import problem_of
from localllm.server.manager import ServedModel
from localllm.server.services import Services
from localllm.server.sse import ClientGone, unless_gone
from localllm.server.wire.frames import to_json

_Result = TypeVar("_Result")


async def compute(
    request: Request,
    services: Services,
    model: str | None,
    work: Callable[[LLM], Awaitable[_Result]],
    describe: Callable[[ServedModel, _Result], Any],
) -> Response:
    """Do `work` under a lease, and answer with what `describe` makes of it, on a thread since it may be large.

    Raises:
        LocalLLMError: it failed.
    """
    route, name = request.url.path, ""

    async def leased() -> tuple[ServedModel, _Result]:
        nonlocal name
        async with services.manager.lease(model) as served:
            name = served.name
            return served, await work(served.loaded)

    try:
        with services.admission.place():
            served, result = await unless_gone(request.receive, leased)
            body = await asyncio.to_thread(lambda: to_json(describe(served, result)))
    except ClientGone:
        services.metrics.count(route, name, "cancelled")
        return Response(status_code=CLIENT_GONE)
    except Exception as error:
        services.metrics.count(route, name, problem_of(error).code or "error")
        raise
    services.metrics.count(route, name, "done")
    return Response(body, media_type="application/json")
