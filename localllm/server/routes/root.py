"""What is at "/"."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

router = APIRouter()


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
async def root(request: Request) -> Response:
    """Say to a program what Ollama says, by which its clients know that a server is there; show a browser something."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse("/docs")
    return PlainTextResponse("Ollama is running")
