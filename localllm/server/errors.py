"""From an error to an HTTP status and a body, in the shape that the API's clients expect."""

from __future__ import annotations

from typing import Any, NamedTuple

from localllm import errors


class Overloaded(errors.LocalLLMError):
    """There is no room for this request now; it may be tried again.

    Args:
        message: what is full.
        retry_after_s: when it is worth trying again.
    """

    def __init__(self, message: str, *, retry_after_s: int = 1, hint: str | None = None) -> None:
        super().__init__(message, hint=hint or f"Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Refused(errors.LocalLLMError):
    """A request that is refused before its content matters: its key, its origin, its size.

    Args:
        status: of the answer.
        message: what is wrong.
        code: for programs.
        param: the field that is wrong, if one is.
    """

    def __init__(
        self, status: int, message: str, *, code: str, hint: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.param = param


class BadRequest(errors.RequestError):
    """A field of the request's body is wrong; `param` names it."""

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class Problem(NamedTuple):
    """An error as HTTP shows it."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    retry_after_s: int | None = None


_INVALID = "invalid_request_error"
_SERVER = "server_error"
_TABLE: dict[type[errors.LocalLLMError], tuple[int, str, str | None]] = {
    errors.LocalLLMError: (500, _SERVER, None),
    errors.ModelError: (500, _SERVER, "model_error"),
    errors.ModelNotFound: (404, _INVALID, "model_not_found"),
    errors.NotEnoughMemory: (503, _SERVER, "not_enough_memory"),
    errors.AllocationFailed: (503, _SERVER, "not_enough_memory"),
    errors.RequestError: (400, _INVALID, None),
    errors.ContextLengthExceeded: (400, _INVALID, "context_length_exceeded"),
    errors.InvalidGrammar: (400, _INVALID, "invalid_grammar"),
    errors.ServerError: (502, _SERVER, "remote_error"),
    errors.ServerBusy: (503, "overloaded_error", "remote_busy"),
    errors.ServerSilent: (504, _SERVER, "remote_silent"),
    errors.HubError: (502, _SERVER, "hub_error"),
    errors.HubNotFound: (404, _INVALID, "model_not_found"),
    errors.HubAccessDenied: (403, _INVALID, "hub_access_denied"),
    errors.HubRateLimited: (503, _SERVER, "hub_rate_limited"),
    errors.HubUnavailable: (503, _SERVER, "hub_unavailable"),
    errors.EngineError: (500, _SERVER, "engine_error"),
    errors.EngineClosed: (503, _SERVER, "model_unloaded"),
    errors.WorkerCrashed: (500, _SERVER, "worker_crashed"),
    Overloaded: (503, "overloaded_error", "overloaded"),
}
"""Status, type and code of the nearest class above an error's own."""

_TYPES_OF_STATUS = {401: "authentication_error", 403: "permission_error", 413: "request_too_large"}
RETRY_AFTER_S = 1


def problem_of(error: BaseException) -> Problem:
    """Describe any error; what is not ours says only that it is a bug, since its text may hold private things."""
    if isinstance(error, Refused):
        kind = _TYPES_OF_STATUS.get(error.status, _INVALID)
        return Problem(error.status, kind, error.code, _words(error), error.param)
    if not isinstance(error, errors.LocalLLMError):
        return Problem(500, _SERVER, "internal_error", f"Internal error ({type(error).__name__}). This is a bug.")
    status, kind, code = next(_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE)
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else RETRY_AFTER_S if status == 503 else None
    return Problem(status, kind, code, _words(error), getattr(error, "param", None), retry_after_s)


def _words(error: errors.LocalLLMError) -> str:
    return f"{error.message} {error.hint}" if error.hint else error.message


def openai_error(problem: Problem) -> dict[str, Any]:
    """Return the body that OpenAI's clients expect."""
    return {
        "error": {
            "message": problem.message,
            "type": problem.type,
            "param": problem.param,
            "code": problem.code,
        }
    }


_ANTHROPIC_TYPES = {
    400: _INVALID,
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
}


def anthropic_error(problem: Problem) -> dict[str, Any]:
    """Return the body that Anthropic's clients expect."""
    kind = _ANTHROPIC_TYPES.get(problem.status, _INVALID if problem.status < 500 else "api_error")
    message = problem.message
    if problem.code == "context_length_exceeded":
        # Agents recognise these words, and shorten the conversation.
        message = f"prompt is too long: {message}"
    return {"type": "error", "error": {"type": kind, "message": message}}


def ollama_error(problem: Problem) -> dict[str, Any]:
    """Return the body that Ollama's clients expect."""
    return {"error": problem.message}


def error_body(path: str, problem: Problem) -> dict[str, Any]:
    """Return an error in the shape of the API that `path` belongs to."""
    if path.startswith("/v1/messages"):
        return anthropic_error(problem)
    if path.startswith("/api/"):
        return ollama_error(problem)
    return openai_error(problem)
