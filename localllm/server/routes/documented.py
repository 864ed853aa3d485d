"""What the OpenAPI page says of errors: every status that a route may answer with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OllamaErrorBody(BaseModel):
    """An error of the Ollama-compatible API."""

    error: str


class ErrorBody(BaseModel):
    """An error of the OpenAI-compatible API."""

    error: ErrorDetail


class AnthropicErrorDetail(BaseModel):
    """What went wrong."""

    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    """An error of the Anthropic-compatible API."""

    type: Literal["error"]
    error: AnthropicErrorDetail


_TEXTS = {
    400: "The request cannot be done as it is.",
    401: "The API key is missing or wrong.",
    403: "The host or the origin is not allowed.",
    404: "There is no such model, or no such path.",
    408: "The body did not arrive in time.",
    409: "The state of the model does not allow it.",
    413: "The body is too large.",
    500: "The model or the server failed.",
    501: "The server does not do this.",
    503: "There is no room now; see Retry-After.",
}


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: what any route may answer with, and the statuses named."""
    return _documented(ErrorBody, more)


def ollama_errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the same for a route of Ollama's API."""
    return _documented(OllamaErrorBody, more)


def anthropic_errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the same for a route of Anthropic's API."""
    return _documented(AnthropicErrorBody, more)


def _documented(model: type[BaseModel], more: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    statuses = sorted({400, 401, 403, 408, 413, 500, 503, *more})
    return {status: {"model": model, "description": _TEXTS[status]} for status in statuses}
