"""What every route needs, in one place."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from localllm.server.admission import Admission
from localllm.server.manager import ModelManager
from localllm.server.metrics import Metrics
from localllm.server.response_store import ResponseStore
from localllm.server.settings import ServerSettings


@dataclass(frozen=True)
class Services:
    """The parts of one running server."""

    settings: ServerSettings
    manager: ModelManager
    metrics: Metrics
    admission: Admission
    started_s: float = field(default_factory=time.monotonic)
    responses: ResponseStore = field(default_factory=ResponseStore)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
"""A route's parameter of this type gets the server's services."""
