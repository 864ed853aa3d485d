"""Reranking, in the shape of Jina's and Cohere's APIs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from localllm.llm.embedding import RerankResult
from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel

MAX_DOCUMENTS = 2048


class Document(WireModel):
    """A document as an object."""

    text: str


class RerankRequest(WireModel):
    """The body of POST /v1/rerank."""

    query: str = Field(min_length=1)
    documents: list[str | Document] = Field(min_length=1)
    model: str | None = None
    top_n: int | None = Field(None, ge=1, description="Only so many, the best ones.")
    return_documents: bool | None = Field(False, description="Repeat each document beside its score.")

    def texts(self) -> list[str]:
        """Return the documents' texts.

        Raises:
            BadRequest: there are too many.
        """
        if len(self.documents) > MAX_DOCUMENTS:
            raise BadRequest(
                f"{len(self.documents):,} documents at once; {MAX_DOCUMENTS:,} are allowed.", param="documents"
            )
        return [document if isinstance(document, str) else document.text for document in self.documents]


def rerank_list(request: RerankRequest, model: str, result: RerankResult) -> dict[str, Any]:
    """Return the answer: the best document first, each with its place in the request."""
    texts = request.texts()
    results = []
    for index in result.ranking[: request.top_n]:
        entry: dict[str, Any] = {"index": index, "relevance_score": float(result.scores[index])}
        if request.return_documents:
            entry["document"] = {"text": texts[index]}
        results.append(entry)
    return {
        "object": "list",
        "model": request.model or model,
        "results": results,
        "usage": {"prompt_tokens": result.n_tokens, "total_tokens": result.n_tokens},
    }
