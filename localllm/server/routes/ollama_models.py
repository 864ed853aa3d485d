"""Ollama's routes about models, and about the server itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from localllm import __version__
from localllm.errors import ModelNotFound
from localllm.server.manager import ServedModel
from localllm.server.model_files import ModelFile, read_model_file
from localllm.server.routes.documented import ollama_errors
from localllm.server.routes.lenient import LenientRoute
from localllm.server.services import Services, ServicesOf
from localllm.server.wire.frames import NDJSON_TYPE, ndjson_line
from localllm.server.wire.ollama.management import ModelRequest, not_here, pulled
from localllm.server.wire.ollama.models import model_description, model_tag, running_model
from localllm.server.wire.ollama.values import API_VERSION

router = APIRouter(tags=["Ollama"], route_class=LenientRoute)

_ERRORS = ollama_errors()
_REFUSALS = ollama_errors(501)


@router.get("/api/tags", responses=_ERRORS)
async def tags(services: ServicesOf) -> dict[str, Any]:
    """List what is served, loaded or not."""
    await services.manager.look()
    files = await _files(services.manager.models)
    return {"models": [model_tag(model, file) for model, file in files]}


@router.get("/api/ps", responses=_ERRORS)
async def running(services: ServicesOf) -> dict[str, Any]:
    """List what is loaded, and for how long."""
    manager = services.manager
    files = await _files([model for model in manager.models if model.is_loaded])
    now = time.monotonic()
    return {
        "models": [
            running_model(model, file, manager.expires_s(model) - now) for model, file in files if model.is_loaded
        ]
    }


@router.post("/api/show", responses=ollama_errors(404))
async def show(services: ServicesOf, body: ModelRequest) -> dict[str, Any]:
    """Describe one model; it is not loaded for this."""
    model = await services.manager.seek(body.wanted)
    [(_, file)] = await _files([model])
    return model_description(model, file)


@router.get("/api/version", responses=_ERRORS)
async def version() -> dict[str, Any]:
    """Give the version of Ollama whose API this is, which clients compare, and this server's own."""
    return {"version": API_VERSION, "server": f"localllm {__version__}"}


@router.post("/api/pull", responses=_REFUSALS)
async def pull(services: ServicesOf, body: ModelRequest) -> Response:
    """Confirm that a model is here. One that is not cannot be downloaded through this server."""
    if not await _is_served(services, body.wanted):
        raise not_here("pull")
    if body.stream is False:
        return JSONResponse(pulled())
    return Response(ndjson_line(pulled()), media_type=NDJSON_TYPE)


async def _is_served(services: Services, name: str | None) -> bool:
    try:
        return bool(name) and await services.manager.seek(name) is not None
    except ModelNotFound:
        return False


def _refuse(verb: str) -> Callable[[], Any]:
    """Return a route that says what to do instead."""

    async def refusal() -> Response:
        raise not_here(verb)

    refusal.__doc__ = f"Refuse: this server does not {verb} models."
    return refusal


for _verb, _method in (("push", "POST"), ("create", "POST"), ("copy", "POST"), ("delete", "DELETE")):
    router.add_api_route(
        f"/api/{_verb}", _refuse(_verb), methods=[_method], responses=_REFUSALS, name=_verb, status_code=501
    )


async def _files(models: list[ServedModel]) -> list[tuple[ServedModel, ModelFile]]:
    found = await asyncio.to_thread(lambda: [read_model_file(model.entry.path) for model in models])
    return list(zip(models, found, strict=True))
