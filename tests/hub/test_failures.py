"""The boundary: no error of huggingface_hub or its HTTP client gets through."""

from __future__ import annotations

import inspect

import httpx2
import pytest
from huggingface_hub import errors as hf

from localllm.errors import HubError, HubUnavailable, LocalLLMError, RequestError
from localllm.hub.failures import hub_errors, translate, wait_s


def _response(status: int = 418) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "http://127.0.0.1/x"))


def _made(kind: type[Exception]) -> Exception:
    """Return an error of a class, however it wants to be made."""
    if issubclass(kind, hf.HfHubHTTPError):
        return kind("canary", response=_response())
    if issubclass(kind, httpx2.HTTPStatusError):
        return kind("canary", request=_response().request, response=_response())
    try:
        return kind("canary")
    except TypeError:
        error = kind.__new__(kind)
        error.args = ("canary",)
        return error


def _classes(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [kind for _, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, root)]


FOREIGN = [
    *(kind for kind in _classes(hf, Exception) if kind.__module__ == hf.__name__),
    *_classes(httpx2, httpx2.HTTPError),
    *_classes(httpx2, httpx2.StreamError),
    httpx2.InvalidURL,
]


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_foreign_error_becomes_ours_with_a_hint(kind: type[Exception]) -> None:
    with pytest.raises(LocalLLMError) as caught, hub_errors("org/name"):
        raise _made(kind)
    assert isinstance(caught.value, HubError | RequestError)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, kind)


def test_there_are_foreign_errors_to_try() -> None:
    assert len(FOREIGN) > 40


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError(28, "full"), KeyboardInterrupt()])
def test_what_is_not_the_hubs_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)), hub_errors("org/name"):
        raise error


def test_control_characters_of_names_and_reasons_do_not_get_out() -> None:
    error = translate(httpx2.ConnectError("\x1b[2J gone"), "org/\x1b[31mred")
    assert error is not None and error.message.isprintable()


def test_another_server_gives_no_hint_about_the_hubs_token() -> None:
    refused = hf.HfHubHTTPError("x", response=_response(403))
    ours = translate(refused, "http://x/y.gguf", is_hub=False)
    assert ours is not None and "HF_TOKEN" not in str(ours.hint)


def test_offline_mode_is_named() -> None:
    ours = translate(hf.OfflineModeIsEnabled("x"), "org/name")
    assert isinstance(ours, HubUnavailable) and "HF_HUB_OFFLINE" in ours.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read(headers: dict[str, str], seconds: int | None) -> None:
    assert wait_s(headers) == seconds
