"""The OpenAPI document: what FastAPI knows of the routes, and what people need beside it: words and examples.

A route without an example is described all the same; an API's author adds its examples here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from localllm.config import Settings
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


_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "max_tokens")

FIELDS = {
    **{name: Settings.help(name) for name in _SETTINGS},
    "max_completion_tokens": "The newer name of max_tokens.",
    "model": "A name or an alias from /v1/models; left out, the default one.",
    "messages": "The conversation, in OpenAI's shape.",
    "prompt": "A text or tokens, or several of them.",
    "stream": "Send the answer piece by piece.",
    "n": "How many answers.",
    "stop": "Texts that end the answer; they are not part of it.",
    "typical_p": "Keep the tokens of typical surprise that together have this probability; 1 is off.",
    "top_n_sigma": "Keep the tokens within so many standard deviations of the best; -1 is off.",
    "xtc_probability": "How often the likeliest tokens are left out (XTC); 0 is off.",
    "xtc_threshold": "XTC leaves out tokens more probable than this, but the last of them.",
    "repeat_penalty": "Make tokens that were there before less likely; 1 is off.",
    "repeat_last_n": "How far back repetition is seen, in tokens; -1 is the whole context.",
    "frequency_penalty": "Make tokens less likely each time they appear; 0 is off.",
    "presence_penalty": "Make tokens that have appeared less likely; 0 is off.",
    "dry_multiplier": "Make repeated sequences less likely (DRY); 0 is off.",
    "dry_base": "How fast DRY's penalty grows with the sequence's length.",
    "dry_allowed_length": "Sequences up to this length are not penalised, in tokens.",
    "dry_penalty_last_n": "How far back DRY looks, in tokens; -1 is the whole context.",
    "dry_sequence_breakers": "Texts that end a sequence for DRY.",
    "mirostat": "Mirostat in place of the other samplers: 1 or 2; 0 is off.",
    "mirostat_tau": "The surprise that Mirostat aims at.",
    "mirostat_eta": "How fast Mirostat learns.",
    "ignore_eos": "Go on when the model would end its answer.",
    "logit_bias": "Token id to what is added to its logit.",
    "logprobs": "Give the probabilities of the tokens.",
    "top_logprobs": "How many likely tokens to name at each place.",
    "response_format": "Text, any JSON object, or JSON that follows a schema.",
    "json_schema": "A schema that the answer follows; llama-server's short form.",
    "tools": "Functions that the model may call, in OpenAI's shape.",
    "tool_choice": "none, auto, required, or the one function to call; enforced.",
    "parallel_tool_calls": "Whether one answer may call several.",
    "reasoning_effort": "For models that know it; none turns reasoning off.",
    "chat_template_kwargs": "Variables for the chat template.",
    "echo": "Begin the answer with the prompt.",
}
"""Words for fields of requests that have none of their own; a field means the same in every API."""


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
    _forget_422(found)
    for (method, path), example in EXAMPLES.items():
        operation = found["paths"].get(path, {}).get(method)
        if operation is not None:
            _add_example(operation, example)
    for name, schema in found["components"]["schemas"].items():
        if name.endswith("Request"):
            _add_words(schema)
    used = _tags_of(found)
    found["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    if settings.key_digests:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def _forget_422(document: dict[str, Any]) -> None:
    """Take out what FastAPI adds of itself: what does not fit a schema is answered with 400 here."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _add_example(operation: dict[str, Any], example: Example) -> None:
    if example.request is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.request
    content = operation["responses"]["200"]["content"]
    if example.answer is not None:
        content["application/json"]["example"] = example.answer
    if example.streams is not None:
        content[example.streams] = {"schema": {"description": "The answer in pieces, when `stream` is true."}}


def _add_words(schema: dict[str, Any]) -> None:
    for name, field in schema.get("properties", {}).items():
        if name in FIELDS:
            field.setdefault("description", FIELDS[name])


def _tags_of(document: dict[str, Any]) -> set[str]:
    operations = (operation for path in document["paths"].values() for operation in path.values())
    return {tag for operation in operations for tag in operation.get("tags", ())}
