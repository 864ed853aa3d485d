"""HTTP requests to one server, by the standard library: what goes wrong on the way becomes an error of ours here.

Redirects are not followed, since a key would follow them; proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from localllm._version import __version__
from localllm.errors import ServerError, ServerSilent, ServerUnreachable
from localllm.remotes.refusals import Refusal, error_of

MAX_ANSWER_BYTES = 64 << 20
PIECE_BYTES = 1 << 16
_USER_AGENT = f"localllm/{__version__}"


@dataclass(frozen=True)
class Patience:
    """How long to wait for what, in seconds."""

    connect_s: float = 10.0
    answer_s: float = 30.0
    """For a whole answer that takes no thought."""
    first_s: float = 600.0
    """For the first byte of an answer that does: the server may read a long prompt first."""
    silence_s: float = 60.0
    """Between the bytes of a stream."""
    note_s: float = 5.0
    """Until silence is worth a note."""


class Wire:
    """Requests to one server; each has a connection of its own.

    Args:
        name: the remote's, for messages.
        root_url: without /v1.
        key: sent as a bearer token; None sends none.
    """

    def __init__(self, name: str, root_url: str, key: str | None, patience: Patience) -> None:
        self.name = name
        self.root_url = root_url
        self.patience = patience
        self._key = key

    def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises:
            LocalLLMError: as `request`.
        """
        return self.request("GET", path, None, self.patience.answer_s)

    def post(self, path: str, body: Any, within_s: float | None = None) -> Any:
        """Send JSON and return the JSON that comes back.

        Raises:
            LocalLLMError: as `request`.
        """
        return self.request("POST", path, body, self.patience.answer_s if within_s is None else within_s)

    def request(self, method: str, path: str, body: Any, within_s: float) -> Any:
        """Return the JSON of an answer with status 200.

        Raises:
            ServerUnreachable: nothing answers.
            ServerSilent: the answer is not there in time.
            ServerError: it is no JSON, or too long, or a refusal of another kind.
            ServerBusy, ModelNotFound, RequestError: it is a refusal of this kind.
        """
        connection = self.connect()
        try:
            response = self.ask(connection, method, path, body, within_s)
            data = self.read_all(response, connection, time.monotonic() + within_s)
        finally:
            connection.close()
        if response.status != 200:
            raise self.refusal(response, path, data)
        return self.json_of(data)

    def connect(self) -> http.client.HTTPConnection:
        """Return an open connection.

        Raises:
            ServerUnreachable: nothing answers.
        """
        parts = urlsplit(self.root_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.patience.connect_s)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            raise ServerUnreachable(
                f"No server answers at {self.root_url}: {self._reason(error)}.",
                hint=f"See whether {self.name} runs there, and whether a firewall is between.",
            ) from error
        return connection

    def ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, within_s: float
    ) -> http.client.HTTPResponse:
        """Send a request and return its answer, of which the status and the headers have come.

        Raises:
            ServerSilent: they do not come in time.
            ServerError: it hangs up, or does not speak HTTP.
        """
        headers = {"accept": "application/json, text/event-stream", "user-agent": _USER_AGENT, "connection": "close"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = "application/json"
        try:
            connection.sock.settimeout(within_s)
            connection.request(method, f"{urlsplit(self.root_url).path}{path}", content, headers)
            return connection.getresponse()
        except TimeoutError as error:
            raise self.silent(within_s) from error
        except http.client.RemoteDisconnected as error:
            raise ServerError(f"{self.name} closed the connection without an answer.", hint=_LOG) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(
                f"What answers at {self.root_url} does not speak HTTP as it should: {self._reason(error)}.",
                hint="Check the address, and whether it begins with http:// or https://.",
            ) from error

    def read_all(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline_s: float
    ) -> bytes:
        """Return a whole body.

        Args:
            deadline_s: of time.monotonic().

        Raises:
            ServerSilent: it does not come in time.
            ServerError: it breaks off, or is too long.
        """
        pieces, n_bytes, n_promised = [], 0, response.length
        try:
            while n_bytes != n_promised and (piece := response.read1(PIECE_BYTES)):
                pieces.append(piece)
                n_bytes += len(piece)
                if n_bytes > MAX_ANSWER_BYTES:
                    raise ServerError(f"{self.name} answers with more than {MAX_ANSWER_BYTES >> 20} MiB.")
                if time.monotonic() > deadline_s:
                    raise TimeoutError
        except TimeoutError as error:
            raise self.silent(self.patience.answer_s) from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.name} broke off its answer: {self._reason(error)}.", hint=_LOG) from error
        if n_promised is not None and n_bytes < n_promised:
            raise ServerError(f"{self.name} broke off its answer after {n_bytes} of {n_promised} bytes.", hint=_LOG)
        return b"".join(pieces)

    def json_of(self, data: bytes) -> Any:
        """Return a body's JSON.

        Raises:
            ServerError: it is none.
        """
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self.not_ours("answers with something that is no JSON") from None

    def refusal(self, response: http.client.HTTPResponse, path: str, data: bytes) -> Exception:
        """Return the error that an answer with another status than 200 means."""
        facts = Refusal(response.status, response.headers.get("location"), response.headers.get("retry-after"), data)
        return error_of(facts, self.name, path, has_key=bool(self._key))

    def silent(self, seconds: float) -> ServerSilent:
        """Return the error of a server that says nothing."""
        return ServerSilent(
            f"{self.name} has not answered for {seconds:g} s.",
            hint="It may be overloaded, stopped, or cut off from the network. Patience is silence_s in remotes.toml.",
        )

    def not_ours(self, what: str) -> ServerError:
        """Return the error of a server of another kind."""
        return ServerError(
            f"{self.name} {what}: {self.root_url} is not an OpenAI-compatible server.",
            hint=f"Check the address: localllm remote check {self.name}",
        )

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, TimeoutError):
            return f"not within {self.patience.connect_s:g} s"
        if isinstance(error, ssl.SSLError):
            return getattr(error, "verify_message", None) or error.reason or "TLS failed"
        from localllm.gguf import printable

        return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__, 120)


_LOG = "It may have crashed; its log may say more."
