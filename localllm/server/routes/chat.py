"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from localllm.server.answering import Job, answer
from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import ServicesOf
from localllm.server.wire.chat import ChatCompletionRequest, ChatReply
from localllm.server.wire.completions import CompletionReply, CompletionRequest
from localllm.server.wire.volatile import steady

router = make_router("OpenAI")


@router.post("/v1/chat/completions", responses=errors(404))
@router.post("/chat/completions", include_in_schema=False)
async def chat_completions(request: Request, services: ServicesOf, body: ChatCompletionRequest) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    options, messages = body.options(), steady(body.messages)
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    job = Job(
        model=body.model,
        open_events=lambda llm: llm.achat(messages, **options),
        make_reply=lambda served: ChatReply(
            body.model or served.name, wants_logprobs="logprobs" in options, include_usage=include_usage
        ),
        stream=bool(body.stream),
    )
    return await answer(request, services, job)


@router.post("/v1/completions", responses=errors(404))
async def completions(request: Request, services: ServicesOf, body: CompletionRequest) -> Response:
    """Continue one prompt or several, without a chat template."""
    options, prompts = body.options(), body.prompts()
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    echoes = [p if body.echo and isinstance(p, str) else "" for p in prompts]
    job = Job(
        model=body.model,
        open_events=lambda llm: llm.agenerate(*prompts, **options),
        make_reply=lambda served: CompletionReply(
            body.model or served.name, echoes, body.n or 1, n_logprobs=body.logprobs, include_usage=include_usage
        ),
        stream=bool(body.stream),
    )
    return await answer(request, services, job)
