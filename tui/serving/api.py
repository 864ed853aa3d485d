"""Asking a server, with the standard library alone: loading a client's packages would be felt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from localllm.errors import ServerError
from localllm.printable import harmless

_TIMEOUT_S = 5.0
_LOAD_TIMEOUT_S = 600.0
_MAX_BYTES = 16 << 20
_MAX_WORDS = 300
_OK, _UNAUTHORIZED = 200, 401


class NeedsKey(ServerError):
    """The server at `url` wants another key."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(message, hint="Put its key into the field API key.")
        self.url = url


@dataclass(frozen=True)
class ServerAPI:
    """One server. All methods wait for its answer: call them on a thread."""

    url: str
    """Without /v1."""
    key: str = ""

    def status(self) -> dict[str, Any]:
        """Return what is loaded, what runs and what waits.

        Raises:
            NeedsKey: the key is missing or wrong.
            ServerError: nothing answers, or something else than a localllm server.
        """
        found = self._json("GET", "/v1/admin/status")
        if not isinstance(found, dict) or not isinstance(found.get("models"), list):
            raise ServerError(f"What answers at {self.url} is not a localllm server.", hint="Choose another port.")
        return found

    def metrics(self) -> str:
        """Return what Prometheus reads."""
        status, data = self._ask("GET", "/metrics")
        if status != _OK:
            raise self._refusal(status, data)
        return data.decode("utf-8", "replace")

    def manage(self, verb: str, model: str) -> None:
        """Load, unload, pin or unpin a model.

        Raises:
            ServerError: the server refuses, with its reason.
        """
        self._json("POST", f"/v1/admin/models/{verb}", {"model": model}, _LOAD_TIMEOUT_S)

    def _json(self, method: str, path: str, body: Any = None, timeout_s: float = _TIMEOUT_S) -> Any:
        status, data = self._ask(method, path, body, timeout_s)
        if status != _OK:
            raise self._refusal(status, data)
        try:
            return json.loads(data)
        except ValueError:
            return None

    def _ask(self, method: str, path: str, body: Any = None, timeout_s: float = _TIMEOUT_S) -> tuple[int, bytes]:
        import http.client

        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["content-type"] = "application/json"
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
            try:
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                return response.status, response.read(_MAX_BYTES)
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ServerError(f"No server answers at {self.url}: {harmless(reason)}.", hint="Start one.") from error

    def _refusal(self, status: int, data: bytes) -> ServerError:
        if status == _UNAUTHORIZED:
            words = "does not accept the key" if self.key else "needs a key"
            return NeedsKey(self.url, f"The server at {self.url} {words}.")
        try:
            error = json.loads(data)["error"]
            message, hint = error["message"], error.get("hint")
        except (ValueError, KeyError, TypeError, AttributeError):
            return ServerError(
                f"What answers at {self.url} is not a localllm server (status {status}).", hint="Choose another port."
            )
        return ServerError(harmless(str(message))[:_MAX_WORDS], hint=harmless(str(hint))[:_MAX_WORDS] if hint else None)
