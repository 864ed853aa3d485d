"""llama-server's own API: /completion, /infill, /props and /slots."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from localllm.llm.model import LLM
from localllm.server.answering import Events, Job, answer
from localllm.server.errors import Overloaded
from localllm.server.infilling import infill
from localllm.server.routes.documented import errors
from localllm.server.routes.lenient import LenientRoute
from localllm.server.services import ServicesOf
from localllm.server.time_limit import within
from localllm.server.wire.native import CompletionBody, InfillBody, NativeReply
from localllm.server.wire.server_state import server_props, slot_states

router = APIRouter(tags=["llama-server"], route_class=LenientRoute)


@router.post("/completion", responses=errors(404))
@router.post("/completions", include_in_schema=False)
async def complete(request: Request, services: ServicesOf, body: CompletionBody) -> Response:
    """Continue one prompt or several, in llama-server's own shape."""
    options, prompts = body.options(), body.prompts()
    echoes = [prompt if isinstance(prompt, str) else "" for prompt in prompts]

    def open_events(llm: LLM) -> Events:
        events = llm.agenerate(*prompts, **options)
        return within(events, body.max_s) if body.max_s is not None and len(prompts) == 1 else events

    job = Job(
        model=body.model,
        open_events=open_events,
        make_reply=lambda served: NativeReply(body.model or served.name, body, echoes),
        stream=bool(body.stream),
    )
    return await answer(request, services, job)


@router.post("/infill", responses=errors(404))
async def fill_in(request: Request, services: ServicesOf, body: InfillBody) -> Response:
    """Write what belongs between two texts, of a model that was trained for it."""
    options, gap = body.options(), body.gap()

    def open_events(llm: LLM) -> Events:
        events = infill(llm, gap, options)
        return within(events, body.max_s) if body.max_s is not None else events

    job = Job(
        model=body.model,
        open_events=open_events,
        make_reply=lambda served: NativeReply(body.model or served.name, body, [body.prompt], gap),
        stream=bool(body.stream),
    )
    return await answer(request, services, job)


@router.get("/props", responses=errors(404))
async def props(services: ServicesOf, model: str | None = None) -> dict[str, Any]:
    """Describe a model and the defaults of its completions; what only loading tells is null until then."""
    return server_props(await services.manager.seek(model))


@router.get("/slots", responses=errors(404))
async def slots(services: ServicesOf, model: str | None = None, fail_on_no_slot: bool = False) -> list[dict[str, Any]]:
    """Say which slots of a model are busy; nothing of what they compute."""
    served = await services.manager.seek(model)
    if served.llm is None or not served.is_loaded:
        return []
    stats = await asyncio.to_thread(served.llm.stats)
    states = slot_states(served.llm.info, stats)
    if fail_on_no_slot and all(state["is_processing"] for state in states):
        raise Overloaded("All slots are busy.")
    return states
