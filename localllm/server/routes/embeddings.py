"""Vectors and scores, for OpenAI's, llama-server's, Jina's and Ollama's clients."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from localllm.llm.embedding import EmbeddingResult
from localllm.llm.model import LLM
from localllm.server.computing import compute
from localllm.server.routes.documented import errors, ollama_errors
from localllm.server.routes.lenient import LenientRoute
from localllm.server.routes.ollama import keep
from localllm.server.services import ServicesOf
from localllm.server.wire.embeddings import (
    EmbeddingRequest,
    NativeEmbeddingRequest,
    embedding_list,
    native_embeddings,
)
from localllm.server.wire.ollama.embeddings import EmbeddingsRequest, EmbedRequest, embed_answer, embeddings_answer
from localllm.server.wire.ollama.replies import Stopwatch
from localllm.server.wire.rerank import RerankRequest, rerank_list

router = APIRouter(tags=["embeddings"], route_class=LenientRoute)


@router.post("/v1/embeddings", responses=errors(404))
async def embeddings(request: Request, services: ServicesOf, body: EmbeddingRequest) -> Response:
    """Return a vector of length 1 for each input."""
    inputs = body.inputs()
    return await compute(
        request,
        services,
        body.model,
        lambda llm: llm.aembed(inputs, dimensions=body.dimensions),
        lambda served, result: embedding_list(body, served.name, result),
    )


@router.post("/embedding", responses=errors(404))
@router.post("/embeddings", include_in_schema=False)
async def native(request: Request, services: ServicesOf, body: NativeEmbeddingRequest) -> Response:
    """Return a vector for each input, in llama-server's own shape."""
    inputs = body.inputs()
    return await compute(
        request,
        services,
        body.model,
        lambda llm: llm.aembed(inputs, normalize=body.embd_normalize == 2),
        lambda _, result: native_embeddings(result),
    )


@router.post("/v1/rerank", responses=errors(404))
@router.post("/rerank", include_in_schema=False)
@router.post("/v1/reranking", include_in_schema=False)
@router.post("/reranking", include_in_schema=False)
async def rerank(request: Request, services: ServicesOf, body: RerankRequest) -> Response:
    """Order documents by how well they answer a query."""
    texts = body.texts()
    return await compute(
        request,
        services,
        body.model,
        lambda llm: llm.arerank(body.query, texts),
        lambda served, result: rerank_list(body, served.name, result),
    )


@router.post("/api/embed", tags=["Ollama"], responses=ollama_errors(404))
async def ollama_embed(request: Request, services: ServicesOf, body: EmbedRequest) -> Response:
    """Return a vector of length 1 for each text."""
    texts, watch = body.texts(), Stopwatch()

    async def work(llm: LLM) -> EmbeddingResult | None:
        watch.mark_loaded()
        keep(services, services.manager.find(body.model), body.keep_alive)
        if not texts:
            return None
        inputs = await asyncio.to_thread(_shortened, llm, texts) if body.truncate is not False else texts
        return await llm.aembed(inputs, dimensions=body.dimensions or None)

    return await compute(
        request,
        services,
        body.model,
        work,
        lambda served, result: embed_answer(body.model or served.name, result, watch),
    )


@router.post("/api/embeddings", tags=["Ollama"], responses=ollama_errors(404))
async def ollama_embeddings(request: Request, services: ServicesOf, body: EmbeddingsRequest) -> Response:
    """Return the vector of one text, as the model gives it."""

    async def work(llm: LLM) -> EmbeddingResult | None:
        keep(services, services.manager.find(body.model), body.keep_alive)
        if not body.prompt:
            return None
        return await llm.aembed(await asyncio.to_thread(_shortened, llm, [body.prompt]), normalize=False)

    return await compute(request, services, body.model, work, lambda _, result: embeddings_answer(result))


def _shortened(llm: LLM, texts: Sequence[str]) -> list[str | list[int]]:
    """Return the texts, those that the model cannot read at once without their ends.

    A token stands for at least a byte, so most texts need not be tokenized to know.
    """
    n_ctx = llm.info.n_ctx
    return [text if len(text.encode("utf-8", "replace")) < n_ctx - 8 else _cut(llm, text, n_ctx) for text in texts]


def _cut(llm: LLM, text: str, n_ctx: int) -> str | list[int]:
    bare = llm.tokenize(text, parse_special=False)
    whole = llm.tokenize(text, add_special=True, parse_special=False)
    if len(whole) <= n_ctx:
        return text
    # What the model expects around a text stays: [CLS] ... [SEP].
    n_head = next((n for n in range(len(whole) - len(bare) + 1) if whole[n : n + len(bare)] == bare), 0)
    tail = whole[n_head + len(bare) :]
    return whole[: n_ctx - len(tail)] + tail
