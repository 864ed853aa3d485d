"""Embeddings, as OpenAI's and llama-server's clients ask for them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from localllm.llm.embedding import EmbeddingResult
from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel

MAX_INPUTS = 2048
"""OpenAI's."""

Input = str | list[int]


Inputs = str | list[str] | list[int] | list[list[int]]
"""One text, several, the tokens of one, or those of several."""


def inputs_of(given: Inputs | None, name: str) -> list[Input]:
    """Return the inputs that a field holds, one or several.

    Raises:
        BadRequest: there is none, or there are too many.
    """
    if not given:
        raise BadRequest(f"{name} is empty.", param=name)
    if isinstance(given, str):
        return [given]
    inputs: list[Any] = [given] if isinstance(given[0], int) else list(given)
    if len(inputs) > MAX_INPUTS:
        raise BadRequest(f"{len(inputs):,} inputs at once; {MAX_INPUTS:,} are allowed.", param=name)
    return inputs


class EmbeddingRequest(WireModel):
    """The body of POST /v1/embeddings."""

    input: Inputs
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="base64: of float32 numbers, little-endian; OpenAI's own clients ask for it."
    )
    dimensions: int | None = Field(None, ge=1, description="The first so many numbers of each vector.")

    def inputs(self) -> list[Input]:
        """Return the inputs, one or several.

        Raises:
            BadRequest: there is none, or there are too many.
        """
        return inputs_of(self.input, "input")


def embedding_list(request: EmbeddingRequest, model: str, result: EmbeddingResult) -> dict[str, Any]:
    """Return the answer."""
    encode = _base64 if request.encoding_format == "base64" else _floats
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(result.vectors)
        ],
        "model": request.model or model,
        "usage": {"prompt_tokens": result.n_tokens, "total_tokens": result.n_tokens},
    }


def _base64(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _floats(vector: NDArray[np.float32]) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


class NativeEmbeddingRequest(WireModel):
    """The body of POST /embedding."""

    content: Inputs | None = None
    input: Inputs | None = None
    model: str | None = None
    embd_normalize: Literal[-1, 2] = Field(2, description="-1: as the model gives them; 2: of length 1.")

    def inputs(self) -> list[Input]:
        """Return the inputs; as EmbeddingRequest's."""
        given = self.content if self.content is not None else self.input
        return inputs_of(given, "content")


def native_embeddings(result: EmbeddingResult) -> list[dict[str, Any]]:
    """Return the answer of /embedding, where each input has a list of vectors: here, of one."""
    return [{"index": index, "embedding": [_floats(vector)]} for index, vector in enumerate(result.vectors)]
