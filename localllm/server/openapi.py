"""The OpenAPI document: what FastAPI knows of the routes, and what people need beside it: words and examples.

A route without an example is described all the same; an API's author adds its examples here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from localllm.server.settings import ServerSettings
from localllm.server.wire.frames import NDJSON_TYPE, SSE_TYPE

SUMMARY = "Language models on this computer."

DESCRIPTION = (
    "Speaks the APIs of OpenAI, Anthropic, Ollama and llama-server, so that their clients work unchanged. "
    "A request without a model gets the default one. Models are loaded when they are first asked for."
)

TAGS = {
    "OpenAI": "What OpenAI's clients call. The base URL ends in /v1.",
    "Anthropic": "What Anthropic's clients call. The base URL is this server's address.",
    "Ollama": "What Ollama's clients call. The host is this server's address.",
    "llama-server": "What llama-server's clients call beside OpenAI's.",
    "embeddings": "From texts to vectors, and to scores of how well they answer a question.",
    "tokens": "From text to tokens.",
    "models": "Which models there are; loading, unloading and pinning them.",
    "operations": "How the server itself is.",
}


class Example(NamedTuple):
    """An example of a route: bodies of a request that works on any server, and of an answer."""

    request: dict[str, Any] | None = None
    answer: Any = None
    streams: str | None = None
    """The media type of the answer when `stream` is true."""


_CHAT_ANSWER = {
    "id": "chatcmpl-6f1f7f3b",
    "object": "chat.completion",
    "created": 1767225600,
    "model": "smollm2",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Red, yellow and blue."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 38, "completion_tokens": 7, "total_tokens": 45},
}

_OLLAMA_ANSWER = {
    "model": "smollm2",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "done": True,
    "done_reason": "stop",
    "total_duration": 412_000_000,
    "prompt_eval_count": 38,
    "eval_count": 7,
}

EXAMPLES = {
    ("post", "/v1/chat/completions"): Example(
        {"messages": [{"role": "user", "content": "Name the primary colours."}], "max_tokens": 64, "stream": False},
        _CHAT_ANSWER,
        SSE_TYPE,
    ),
    ("post", "/v1/completions"): Example(
        {"prompt": "The primary colours are", "max_tokens": 16, "stream": False},
        {
            "id": "cmpl-0b6c2d1e",
            "object": "text_completion",
            "created": 1767225600,
            "model": "smollm2",
            "choices": [{"index": 0, "text": " red, yellow and blue.", "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        },
        SSE_TYPE,
    ),
    ("post", "/v1/embeddings"): Example(
        {"input": ["A cat sits on a mat.", "A kitten rests on a rug."]},
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.031, -0.058, 0.012]}],
            "model": "smollm2",
            "usage": {"prompt_tokens": 15, "total_tokens": 15},
        },
    ),
    ("post", "/api/chat"): Example(
        {
            "messages": [{"role": "user", "content": "Name the primary colours."}],
            "options": {"num_predict": 64},
            "stream": False,
        },
        _OLLAMA_ANSWER | {"message": {"role": "assistant", "content": "Red, yellow and blue."}},
        NDJSON_TYPE,
    ),
    ("post", "/api/generate"): Example(
        {"prompt": "Name the primary colours.", "options": {"num_predict": 64}, "stream": False},
        _OLLAMA_ANSWER | {"response": "Red, yellow and blue."},
        NDJSON_TYPE,
    ),
    ("post", "/completion"): Example(
        {"prompt": "The primary colours are", "n_predict": 16},
        {"content": " red, yellow and blue.", "stop": True, "stop_type": "eos", "tokens_predicted": 7},
        SSE_TYPE,
    ),
    ("post", "/tokenize"): Example({"content": "Hello, world"}, {"tokens": [19556, 28, 905]}),
    ("get", "/health"): Example(answer={"status": "ok"}),
}


def describe(app: FastAPI, settings: ServerSettings) -> None:
    """Make `app` answer /openapi.json with the whole document, made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, settings: ServerSettings) -> dict[str, Any]:
    found = get_openapi(
        title=app.title, version=app.version, summary=SUMMARY, description=DESCRIPTION, routes=app.routes
    )
    for (method, path), example in EXAMPLES.items():
        operation = found["paths"].get(path, {}).get(method)
        if operation is not None:
            _add_example(operation, example)
    used = _tags_of(found)
    found["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    if settings.key_digests:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _add_example(operation: dict[str, Any], example: Example) -> None:
    if example.request is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.request
    content = operation["responses"]["200"]["content"]
    if example.answer is not None:
        content["application/json"]["example"] = example.answer
    if example.streams is not None:
        content[example.streams] = {"schema": {"type": "string"}}


def _tags_of(document: dict[str, Any]) -> set[str]:
    operations = (operation for path in document["paths"].values() for operation in path.values())
    return {tag for operation in operations for tag in operation.get("tags", ())}
