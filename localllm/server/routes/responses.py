"""OpenAI's Responses API: POST /v1/responses, and the responses that are kept."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from starlette.responses import Response

from localllm.server.answering import Job, answer
from localllm.server.errors import BadRequest
from localllm.server.response_store import KeptResponse
from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import Services, ServicesOf
from localllm.server.wire.response_items import Item, parse_items
from localllm.server.wire.response_reply import ResponseReply
from localllm.server.wire.responses import ResponsePrompt, ResponseRequest

router = make_router("OpenAI", prefix="/v1/responses")


@router.post("", responses=errors(404))
async def create_response(request: Request, services: ServicesOf, body: ResponseRequest) -> Response:
    """Answer a conversation, whole or as server-sent events."""
    options = body.options()
    items, previous = _conversation(services, body)
    messages = body.messages([*(previous.conversation if previous is not None else ()), *items])

    def keep(response: Any) -> None:
        if body.keeps:
            services.responses.keep(response, items, previous)

    job = Job(
        model=body.model,
        open_events=lambda llm: llm.achat(messages, **options),
        make_reply=lambda served: ResponseReply(
            body.model or served.name,
            body.echo(),
            summarizes=body.summarizes,
            seals_reasoning=body.seals_reasoning,
            on_end=keep,
        ),
        stream=bool(body.stream),
    )
    return await answer(request, services, job)


@router.post("/input_tokens", responses=errors(404))
async def count_input_tokens(services: ServicesOf, body: ResponsePrompt) -> dict[str, Any]:
    """Count the tokens that a request would have as its prompt, its tools and its template included."""
    items, previous = _conversation(services, body)
    messages = body.messages([*(previous.conversation if previous is not None else ()), *items])
    tools = body.tool_options().get("tools")
    async with services.manager.lease(body.model) as served:
        n_tokens = await asyncio.to_thread(served.loaded.count_chat, messages, tools=tools)
    return {"object": "response.input_tokens", "input_tokens": n_tokens}


@router.get("/{response_id}", responses=errors(404))
async def get_response(services: ServicesOf, response_id: str, stream: bool = False) -> dict[str, Any]:
    """Return a response that is kept."""
    if stream:
        raise BadRequest("A response that has ended is not streamed again.", param="stream", hint="Leave stream out.")
    return services.responses.find(response_id).body


@router.delete("/{response_id}", responses=errors(404))
async def delete_response(services: ServicesOf, response_id: str) -> dict[str, Any]:
    """Forget a response."""
    services.responses.delete(response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/{response_id}/input_items", responses=errors(404))
async def list_input_items(
    services: ServicesOf,
    response_id: str,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> dict[str, Any]:
    """List what a response was asked with, the conversation before it included."""
    found = services.responses.find(response_id).asked
    if order == "desc":
        found.reverse()
    if after is not None:
        place = next((index for index, item in enumerate(found) if item["id"] == after), None)
        if place is None:
            raise BadRequest(f"There is no item {after[:80]!r} in this response.", param="after")
        found = found[place + 1 :]
    page = found[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


def _conversation(services: Services, body: ResponsePrompt) -> tuple[list[Item], KeptResponse | None]:
    """Return a request's own items, and the response that it follows."""
    previous = services.responses.previous(body.previous_response_id)
    return parse_items(body.input, services.responses.find_item), previous
