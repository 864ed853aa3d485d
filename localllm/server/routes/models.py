"""The models: what there is, and loading, unloading and pinning them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from localllm.server.errors import Refused
from localllm.server.manager import ServedModel
from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import Services, ServicesOf
from localllm.server.wire.base import WireModel
from localllm.server.wire.models import adapters, model_card

router = make_router("models")


class ModelName(WireModel):
    """Which model."""

    model: str = Field(min_length=1)
    force: bool = Field(False, description="Unload at once, also a pinned model; its running requests end with errors.")


@router.get("/v1/models", responses=errors())
@router.get("/models", include_in_schema=False)
async def list_models(services: ServicesOf) -> dict[str, Any]:
    """List what is served, loaded or not."""
    await services.manager.look()
    return {"object": "list", "data": [model_card(model) for model in services.manager.models]}


@router.get("/v1/models/{name:path}", responses=errors(404))
async def get_model(services: ServicesOf, name: str) -> dict[str, Any]:
    """Describe one model."""
    return model_card(await services.manager.seek(name))


@router.get("/lora-adapters", responses=errors(404))
async def lora_adapters(services: ServicesOf, model: str | None = None) -> list[dict[str, Any]]:
    """List the LoRA adapters of a model, which a request scales with `lora: [{"id": 0, "scale": 0.5}]`."""
    async with services.manager.lease(model) as served:
        return adapters(served.loaded.info)


@router.post("/v1/admin/models/load", responses=errors(404))
async def load_model(services: ServicesOf, body: ModelName) -> dict[str, Any]:
    """Load a model now."""
    check_admin(services)
    return model_card(await services.manager.load(body.model))


@router.post("/v1/admin/models/unload", responses=errors(404, 409))
async def unload_model(services: ServicesOf, body: ModelName) -> dict[str, Any]:
    """Unload a model, when its requests have ended."""
    check_admin(services)
    return model_card(await services.manager.unload(body.model, force=body.force))


@router.post("/v1/admin/models/pin", responses=errors(404))
async def pin_model(services: ServicesOf, body: ModelName) -> dict[str, Any]:
    """Keep a model loaded, whatever others need."""
    return _pin(services, body, pinned=True)


@router.post("/v1/admin/models/unpin", responses=errors(404))
async def unpin_model(services: ServicesOf, body: ModelName) -> dict[str, Any]:
    """Let a model give way again."""
    return _pin(services, body, pinned=False)


def _pin(services: Services, body: ModelName, *, pinned: bool) -> dict[str, Any]:
    check_admin(services)
    model: ServedModel = services.manager.pin(body.model, pinned=pinned)
    return model_card(model)


def check_admin(services: Services) -> None:
    """Raise Refused where clients may not manage models."""
    if not services.settings.admin:
        raise Refused(403, "This server does not let clients manage its models.", code="admin_disabled")
