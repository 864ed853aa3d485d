"""What `localllm ps` asks: the server and its models now."""

from __future__ import annotations

import asyncio
import time

from localllm import __version__
from localllm.engine.stats import EngineStats
from localllm.errors import LocalLLMError
from localllm.llm.model import LLM
from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import ServicesOf
from localllm.server.wire.status import RequestCounts, ServerStatus, model_status

router = make_router("operations")


@router.get("/v1/admin/status", responses=errors())
async def status(services: ServicesOf) -> ServerStatus:
    """Say what is loaded, what runs and what waits."""
    models = services.manager.models
    stats = await asyncio.gather(*(_stats(m.llm if m.is_loaded else None) for m in models))
    now_s = time.monotonic()
    return ServerStatus(
        version=__version__,
        uptime_s=round(now_s - services.started_s, 1),
        requests=RequestCounts(
            active=services.admission.n_active,
            refused=services.admission.n_refused,
            max=services.settings.max_requests,
        ),
        models=[model_status(m, s, now_s) for m, s in zip(models, stats, strict=True)],
    )


async def _stats(llm: LLM | None) -> EngineStats | None:
    """Ask a model's engine; None if it is not loaded, or is lost or unloaded in this moment."""
    if llm is None:
        return None
    try:
        return await asyncio.to_thread(llm.stats)
    except LocalLLMError:
        return None
