"""How the server itself is: /health, /metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import PlainTextResponse, Response

from localllm.server.metrics import CONTENT_TYPE
from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import ServicesOf

router = make_router("operations")


@router.get("/health", responses=errors())
@router.get("/v1/health", include_in_schema=False)
async def health() -> dict[str, Any]:
    """Say that the server runs; it answers also while a model loads or its worker is down."""
    return {"status": "ok"}


@router.get("/metrics", response_class=PlainTextResponse, responses=errors())
async def metrics(services: ServicesOf) -> Response:
    """Give everything that is counted, in Prometheus's text format."""
    text = await asyncio.to_thread(services.metrics.render)
    return Response(text, headers={"content-type": CONTENT_TYPE})
