"""Asking a running server, with the standard library alone: this has to start fast."""

from __future__ import annotations

import http.client
import json
import os
from typing import Any
from urllib.parse import urlsplit

from localllm.config import API_KEY_VARIABLE
from localllm.errors import RequestError, ServerError

DEFAULT_URL = "http://127.0.0.1:8080"

_TIMEOUT_S = 10.0
_MAX_BYTES = 16 << 20


def get_json(url: str, path: str) -> dict[str, Any]:
    """Return the JSON object at a server's path; the key is that of the environment.

    Args:
        url: the server's address; a path in it, such as /v1, is left out.
        path: begins with a slash.

    Raises:
        RequestError: `url` is not an address.
        ServerError: nothing answers there, it refuses, or it is not a server of ours.
    """
    base = _base_of(url)
    try:
        status, body = _get(base, path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ServerError(
            f"No server answers at {base}: {reason}.",
            hint="Start one with: localllm serve; or name another with --url.",
        ) from error
    if status == 200 and isinstance(body, dict):
        return body
    raise _refusal(base, status, body)


def _base_of(url: str) -> str:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise RequestError(f"{url!r} is not a server's address.", hint=f"Write it like {DEFAULT_URL}.")
    return f"{parts.scheme}://{parts.netloc}"


def _get(base: str, path: str) -> tuple[int, Any]:
    """Return the status, and the body if it is JSON."""
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    key = os.environ.get(API_KEY_VARIABLE)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        data = response.read(_MAX_BYTES)
    finally:
        connection.close()
    try:
        return response.status, json.loads(data)
    except ValueError:
        return response.status, None


def _refusal(base: str, status: int, body: Any) -> ServerError:
    error = body.get("error") if isinstance(body, dict) else None
    if status == 401:
        is_set = bool(os.environ.get(API_KEY_VARIABLE))
        return ServerError(
            f"The server at {base} does not accept the key." if is_set else f"The server at {base} needs a key.",
            hint=f"Put its key into {API_KEY_VARIABLE}.",
        )
    if isinstance(error, dict) and status != 404:
        return ServerError(f"The server at {base} refused: {error.get('message')}")
    return ServerError(
        f"What answers at {base} is not a localllm server, or an older one (status {status}).",
        hint="Name another with --url.",
    )
