"""Ollama's /api/embed and /api/embeddings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from localllm.llm.embedding import EmbeddingResult
from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel
from localllm.server.wire.embeddings import MAX_INPUTS
from localllm.server.wire.ollama.replies import Stopwatch
from localllm.server.wire.ollama.values import Duration


class EmbedRequest(WireModel):
    """The body of POST /api/embed."""

    model: str | None = None
    input: str | list[str] = Field("", description="A text or several; without any, the model is only loaded.")
    truncate: bool | None = Field(True, description="Leave out the end of a text that is too long for the model.")
    dimensions: int | None = Field(None, ge=0)
    keep_alive: Duration | None = None

    def texts(self) -> list[str]:
        """Return the texts; none, if the model shall only be loaded.

        Raises:
            BadRequest: there are too many.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        if len(texts) > MAX_INPUTS:
            raise BadRequest(f"{len(texts):,} inputs at once; {MAX_INPUTS:,} are allowed.", param="input")
        return [] if texts == [""] else texts


class EmbeddingsRequest(WireModel):
    """The body of POST /api/embeddings, which is older and takes one text."""

    model: str | None = None
    prompt: str = ""
    keep_alive: Duration | None = None


def embed_answer(model: str, result: EmbeddingResult | None, watch: Stopwatch) -> dict[str, Any]:
    """Return the answer of /api/embed; without a result, the model was only loaded."""
    return {
        "model": model,
        "embeddings": [] if result is None else result.vectors.tolist(),
        **watch.durations(),
        "prompt_eval_count": 0 if result is None else result.n_tokens,
    }


def embeddings_answer(result: EmbeddingResult | None) -> dict[str, Any]:
    """Return the answer of /api/embeddings."""
    return {"embedding": [] if result is None else result.vectors[0].tolist()}
