"""llama-server's /tokenize and /detokenize."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from pydantic import Field

from localllm.server.routes.documented import errors
from localllm.server.routes.router import make_router
from localllm.server.services import ServicesOf
from localllm.server.wire.base import WireModel

router = make_router("tokens")


class TokenizeRequest(WireModel):
    """A text."""

    content: str
    model: str | None = None
    add_special: bool = Field(False, description="Add the tokens that begin and end a text, such as BOS.")
    parse_special: bool = Field(True, description="Let text like <|im_end|> become its control token.")


@router.post("/tokenize", responses=errors(404))
async def tokenize(request: Request, services: ServicesOf, body: TokenizeRequest) -> dict[str, Any]:
    """Return the token ids of a text."""
    async with services.manager.lease(body.model) as served:
        llm = served.loaded
        ids = await asyncio.to_thread(
            llm.tokenize, body.content, add_special=body.add_special, parse_special=body.parse_special
        )
    return {"tokens": ids}


class DetokenizeRequest(WireModel):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


@router.post("/detokenize", responses=errors(404))
async def detokenize(request: Request, services: ServicesOf, body: DetokenizeRequest) -> dict[str, Any]:
    """Return the text of token ids; what is no UTF-8 in it becomes U+FFFD."""
    async with services.manager.lease(body.model) as served:
        text = await asyncio.to_thread(served.loaded.detokenize, body.tokens)
    return {"content": text}
