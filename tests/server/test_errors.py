"""The table of errors: every class of the tree has a status, and no foreign error's text gets out."""

from __future__ import annotations

import pytest

from localllm import errors
from localllm.server.errors import BadRequest, Overloaded, Refused, error_body, problem_of


def all_classes(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(cls for child in root.__subclasses__() for cls in all_classes(child))]


OURS = [
    cls for cls in all_classes(errors.LocalLLMError) if cls.__module__.startswith("localllm.") and cls is not Refused
]


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_every_error_has_a_status_a_type_and_its_words(cls: type[errors.LocalLLMError]) -> None:
    problem = problem_of(cls("What happened.", hint="What to do."))
    assert 400 <= problem.status < 600
    assert problem.message == "What happened. What to do."
    assert problem.type
    at_fault = errors.RequestError | errors.ModelNotFound | errors.HubNotFound | errors.HubAccessDenied
    assert (problem.status < 500) == issubclass(cls, at_fault)
    assert (problem.retry_after_s is not None) == (problem.status == 503)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.ContextLengthExceeded("x"), 400, "context_length_exceeded"),
        (errors.InvalidGrammar("x"), 400, "invalid_grammar"),
        (errors.TemplateError("x"), 400, None),
        (BadRequest("x", param="n"), 400, None),
        (errors.ModelNotFound("x"), 404, "model_not_found"),
        (errors.InvalidModelFile("x"), 500, "model_error"),
        (errors.WorkerCrashed("x"), 500, "worker_crashed"),
        (errors.EngineClosed("x"), 503, "model_unloaded"),
        (errors.ServerUnreachable("x"), 502, "remote_error"),
        (errors.AnswerBroken("x"), 502, "remote_error"),
        (errors.ServerBusy("x"), 503, "remote_busy"),
        (errors.ServerSilent("x"), 504, "remote_silent"),
        (errors.NotEnoughMemory("x"), 503, "not_enough_memory"),
        (errors.HubError("x"), 502, "hub_error"),
        (errors.HubNotFound("x"), 404, "model_not_found"),
        (errors.HubAccessDenied("x"), 403, "hub_access_denied"),
        (errors.HubRateLimited("x"), 503, "hub_rate_limited"),
        (errors.HubUnavailable("x"), 503, "hub_unavailable"),
        (errors.AllocationFailed("x"), 503, "not_enough_memory"),
        (Overloaded("x", retry_after_s=7), 503, "overloaded"),
        (Refused(401, "x", code="invalid_api_key"), 401, "invalid_api_key"),
    ],
)
def test_statuses_and_codes_that_programs_rely_on(error: errors.LocalLLMError, status: int, code: str | None) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)


@pytest.mark.parametrize(
    "error", [ValueError("canary"), KeyError("canary"), MemoryError("canary"), OSError(5, "canary")]
)
def test_foreign_errors_text_does_not_get_out(error: Exception) -> None:
    problem = problem_of(error)
    assert problem.status == 500
    assert problem.code == "internal_error"
    assert "canary" not in problem.message


def test_each_api_gets_its_own_shape() -> None:
    problem = problem_of(Overloaded("Full.", retry_after_s=3))
    openai = error_body("/v1/chat/completions", problem)["error"]
    assert set(openai) == {"message", "type", "param", "code"}
    anthropic = error_body("/v1/messages", problem)
    assert anthropic["type"] == "error" and anthropic["error"]["type"] == "overloaded_error"
    assert error_body("/api/chat", problem) == {"error": problem.message}
