"""Anthropic's POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.responses import Response

from localllm.server.answering import Job, answer
from localllm.server.routes.documented import anthropic_errors
from localllm.server.routes.router import make_router
from localllm.server.services import ServicesOf
from localllm.server.wire.message_reply import PING, MessageReply
from localllm.server.wire.messages import CountTokensRequest, MessagesRequest

router = make_router("Anthropic")


@router.post("/v1/messages", responses=anthropic_errors(404))
async def create_message(request: Request, services: ServicesOf, body: MessagesRequest) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    messages, options = body.chat_messages(), body.options()
    job = Job(
        model=body.model,
        open_events=lambda llm: llm.achat(messages, **options),
        make_reply=lambda served: MessageReply(
            body.model or served.name, thinks=body.thinks, shows_thinking=body.shows_thinking
        ),
        stream=bool(body.stream),
        keep_alive=PING,
    )
    return await answer(request, services, job)


@router.post("/v1/messages/count_tokens", responses=anthropic_errors(404))
async def count_tokens(services: ServicesOf, body: CountTokensRequest) -> dict[str, int]:
    """Count the tokens that a request would have as its prompt, its tools and its template included."""
    messages, tools = body.chat_messages(), body.chat_tools()
    async with services.manager.lease(body.model) as served:
        n_tokens = await asyncio.to_thread(served.loaded.count_chat, messages, tools=tools)
    return {"input_tokens": n_tokens}
