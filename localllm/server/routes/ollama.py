"""Ollama's /api/chat and /api/generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from localllm.llm.model import LLM
from localllm.server.answering import Events, Job, answer
from localllm.server.infilling import infill
from localllm.server.manager import ServedModel
from localllm.server.routes.documented import ollama_errors
from localllm.server.routes.lenient import LenientRoute
from localllm.server.routes.models import check_admin
from localllm.server.services import Services, ServicesOf
from localllm.server.wire.frames import NDJSON_TYPE
from localllm.server.wire.gap import Gap
from localllm.server.wire.ollama.replies import ChatReply, GenerateReply, Stopwatch, nothing_to_answer
from localllm.server.wire.ollama.requests import ChatRequest, GenerateRequest, TextRequest
from localllm.server.wire.volatile import steady

router = APIRouter(tags=["Ollama"], route_class=LenientRoute)


@router.post("/api/chat", responses=ollama_errors(404, 409))
async def chat(request: Request, services: ServicesOf, body: ChatRequest) -> Response:
    """Answer a conversation, as lines of JSON unless `stream` is false. Without messages, load the model."""
    if not body.messages:
        return await _load_or_unload(services, body, {"message": {"role": "assistant", "content": ""}})
    options, messages, watch = body.chat_options(), steady(body.openai_messages()), Stopwatch()

    def open_events(llm: LLM) -> Events:
        watch.mark_loaded()
        return llm.achat(messages, **options)

    def make_reply(served: ServedModel) -> ChatReply:
        keep(services, served, body.keep_alive)
        return ChatReply(body.model or served.name, watch, wants_logprobs=body.wants_logprobs)

    job = Job(body.model, open_events, make_reply, body.streams, NDJSON_TYPE, b"")
    return await answer(request, services, job)


@router.post("/api/generate", responses=ollama_errors(404, 409))
async def generate(request: Request, services: ServicesOf, body: GenerateRequest) -> Response:
    """Answer a prompt, as lines of JSON unless `stream` is false. Without a prompt, load the model."""
    body.check()
    if not (body.prompt or body.suffix):
        return await _load_or_unload(services, body, {"response": ""})
    conversation, watch = steady(body.conversation()), Stopwatch()

    def open_events(llm: LLM) -> Events:
        watch.mark_loaded()
        if body.suffix:
            return infill(llm, Gap(body.prompt or "", body.suffix), body.text_options())
        if body.raw:
            return llm.agenerate(body.prompt or "", **body.text_options())
        if llm.info.chat_template is None:
            return llm.agenerate(body.plain_text(), **body.text_options())
        return llm.achat(conversation, **body.chat_options())

    def make_reply(served: ServedModel) -> GenerateReply:
        keep(services, served, body.keep_alive)
        return GenerateReply(
            body.model or served.name,
            watch,
            wants_logprobs=body.wants_logprobs,
            conversation=conversation if body.keeps_context else None,
        )

    job = Job(body.model, open_events, make_reply, body.streams, NDJSON_TYPE, b"")
    return await answer(request, services, job)


def keep(services: Services, served: ServedModel, keep_alive_s: float | None) -> None:
    """Keep a model loaded as long as a client wants, where clients may say so."""
    if keep_alive_s is not None and services.settings.admin:
        services.manager.keep(served, keep_alive_s)


async def _load_or_unload(services: Services, body: TextRequest, content: Mapping[str, Any]) -> Response:
    if body.wants_unloading:
        check_admin(services)
        served = await services.manager.unload(body.model or services.manager.find(None).name)
        return JSONResponse(nothing_to_answer(body.model or served.name, content, "unload"))
    with services.admission.place():
        async with services.manager.lease(body.model) as served:
            keep(services, served, body.keep_alive)
    return JSONResponse(nothing_to_answer(body.model or served.name, content, "load"))
