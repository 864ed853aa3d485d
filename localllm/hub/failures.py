"""The one boundary where the errors of huggingface_hub and its HTTP client become ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from localllm.errors import (
    HubAccessDenied,
    HubError,
    HubNotFound,
    HubRateLimited,
    HubUnavailable,
    LocalLLMError,
    RequestError,
)
from localllm.gguf.problems import printable

LOGIN = "Run hf auth login, or set HF_TOKEN."
_RESET = re.compile(r";\s*t\s*=\s*(\d+)")


@contextmanager
def hub_errors(asked: str, *, is_hub: bool = True) -> Iterator[None]:
    """Turn third-party errors into ours. What no server can cause (a bug, a full disk) goes through.

    Args:
        asked: what was asked for, for messages: a repository, a file, a query.
        is_hub: whether the hub was asked, or some other web server.

    Raises:
        HubError: of the class that fits.
        RequestError: huggingface_hub does not take the name.
    """
    try:
        yield
    except LocalLLMError:
        raise
    except Exception as error:
        ours = translate(error, asked, is_hub=is_hub)
        if ours is None:
            raise
        raise ours from error


def translate(error: Exception, asked: str, *, is_hub: bool = True) -> LocalLLMError | None:
    """Return our error for a third-party one, or None if it is not about the hub."""
    import httpx2
    from huggingface_hub import errors as hf

    what = printable(asked, 200)
    match error:
        case hf.OfflineModeIsEnabled():
            return HubUnavailable(
                f"{what} is not on this disk, and HF_HUB_OFFLINE forbids to ask for it.", hint="Unset HF_HUB_OFFLINE."
            )
        case hf.GatedRepoError():
            return HubAccessDenied(
                f"{what} is gated: its owner wants its terms accepted first.",
                hint=f"Accept them on its page on the hub. {LOGIN}",
            )
        case hf.HfHubHTTPError() if error.response is not None:
            return _of_response(error, what, is_hub=is_hub)
        case hf.EntryNotFoundError() | hf.RevisionResolutionError():
            return HubNotFound(f"There is no {what}.", hint="Check the name.")
        case hf.HFValidationError() | hf.HfUriError():
            return RequestError(f"{what} is no name of a repository.", hint="Give org/name.")
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return RequestError(f"{what} is not fetched: the address is not valid.", hint="Check it, and HF_ENDPOINT.")
        case httpx2.TimeoutException():
            return HubUnavailable(
                f"{what}: no answer in time.", hint="Try again, or give it longer with HF_HUB_DOWNLOAD_TIMEOUT."
            )
        case httpx2.ProxyError():
            return HubUnavailable(f"{what}: the proxy refused.", hint="Check HTTPS_PROXY.")
        case httpx2.NetworkError() | httpx2.RemoteProtocolError():
            return HubUnavailable(
                f"{what}: no connection ({_reason(error)}).", hint="Check the network, and HF_ENDPOINT if you set it."
            )
        case httpx2.HTTPError() | httpx2.StreamError() | hf.FileMetadataError() | hf.XetDownloadError():
            return HubError(f"{what}: {_reason(error)}.", hint="Try again.")
    if type(error).__module__.startswith(("huggingface_hub", "httpx2", "httpcore2")):
        return HubError(f"{what}: {_reason(error)}.", hint="Try again.")
    return None


def wait_s(headers: Mapping[str, str]) -> int | None:
    """Return how many seconds a server wants to be left alone, if it says so.

    Source: RFC 9110, Retry-After; draft-ietf-httpapi-ratelimit-headers, of which the hub sends `"api";r=0;t=55`.
    """
    after = headers.get("retry-after", "").strip()
    if after.isdigit():
        return int(after)
    reset = _RESET.search(headers.get("ratelimit", ""))
    return int(reset[1]) if reset else None


def _of_response(error: Exception, what: str, *, is_hub: bool) -> LocalLLMError:
    from huggingface_hub import errors as hf

    assert isinstance(error, hf.HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, hf.RepositoryNotFoundError):
        return HubNotFound(
            f"There is no {what} on the hub, or it is private.",
            hint=f"localllm search finds names. If private: {LOGIN}",
        )
    if isinstance(error, hf.RevisionNotFoundError):
        return HubNotFound(f"{what} has no such revision.", hint="Give a branch, tag or commit that it has.")
    if status in (404, 410):
        return HubNotFound(f"There is no {what}.", hint="Check the name.")
    if status in (401, 403, 407):
        why = "the token is refused, or missing" if status == 401 else "access is denied"
        return HubAccessDenied(
            f"{what}: {why} ({status}).", hint=LOGIN if is_hub else "The address must be open without a login."
        )
    if status == 429:
        return rate_limited(what, wait_s(error.response.headers))
    if status >= 500:
        return HubUnavailable(f"{what}: the server failed ({status}).", hint="Try again later.")
    return HubError(f"{what}: the server answered {status}.", hint="Try again later.")


def rate_limited(asked: str, seconds: int | None) -> HubRateLimited:
    """Return the error for too many requests."""
    when = "Try again later" if seconds is None else f"Try again in {seconds} s"
    return HubRateLimited(
        f"{printable(asked, 200)}: too many requests (429).",
        retry_after_s=seconds,
        hint=f"{when}; with a token, more are allowed. {LOGIN}",
    )


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split()) or type(error).__name__, 200).rstrip(".")
