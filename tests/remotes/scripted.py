"""A server of OpenAI's API on loopback that says what it is told to, and fails as it is told to.

Its tokens are bytes, and the log-probability of a token depends on the token and on how many came before it.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Act = Callable[["Handler"], None]
"""What is done where a chat completion is asked for."""

USAGE = {
    "prompt_tokens": 12,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


def log_prob(n_before: int, token: int) -> float:
    return -0.25 * (1 + (token + n_before) % 7)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Scripted  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    body: Json

    def do_GET(self) -> None:
        self._note({})
        path = self.path
        if not self._is_let_in():
            self.say(401, {"error": {"message": "Incorrect API key."}})
        elif path == "/v1/models" and self.server.listing is not None:
            self.say(200, self.server.listing)
        elif path in self.server.pages:
            self.say(200, self.server.pages[path])
        else:
            self.say(404, {"error": {"message": f"no such path {path}"}})

    def do_POST(self) -> None:
        self._note(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        if not self._is_let_in():
            self.say(401, {"error": {"message": "Incorrect API key."}})
        elif self.path == "/v1/chat/completions":
            self.server.act(self)
        elif self.path == "/tokenize":
            special = self.body.get("add_special")
            self.say(200, {"tokens": [*([1] if special else []), *self.body["content"].encode()]})
        elif self.path == "/v1/completions" and self.body.get("stream"):
            self.stream([{"choices": [{"index": 0, "text": "more", "finish_reason": "stop"}]}])
        elif self.path == "/v1/completions":
            self.say(*self.server.complete(self.body))

    def say(self, status: int, body: Any, **headers: str) -> None:
        """Send a whole answer: JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "text/html" if data.startswith(b"<") else "application/json"
        for name, value in {"content_type": kind, "content_length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """Begin a stream without a length, which the connection's end ends."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def send(self, chunk: Any) -> None:
        """Send an event; text is sent as it is."""
        self.wfile.write(f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n".encode())

    def stream(self, chunks: list[Any]) -> None:
        """Send events and what ends them."""
        self.begin()
        for chunk in [*chunks, "[DONE]"]:
            self.send(chunk)

    def drop(self) -> None:
        """End the connection as a crash does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _is_let_in(self) -> bool:
        return self.server.key is None or self.headers.get("authorization") == f"Bearer {self.server.key}"

    def _note(self, body: Json) -> None:
        self.body = body
        self.server.asked.append((self.path, body, self.headers.get("authorization")))

    def log_message(self, format: str, *args: object) -> None:
        pass


def delta(**fields: Any) -> Json:
    """Return a chunk of a chat completion; `reason` ends it, `index` is of the choice."""
    reason, index = fields.pop("reason", None), fields.pop("index", 0)
    return {"choices": [{"index": index, "delta": fields, "finish_reason": reason}]}


def says(*pieces: str, reason: str = "stop", usage: Json | None = USAGE) -> Act:
    """Answer with these pieces of text."""
    chunks = [delta(content=piece) for piece in pieces] + [delta(reason=reason)]
    if usage is not None:
        chunks.append({"choices": [], "usage": usage})
    return lambda handler: handler.stream(chunks)


def refuses(status: int, body: Any = b"", **headers: str) -> Act:
    return lambda handler: handler.say(status, body, **headers)


class Scripted(ThreadingHTTPServer):
    """The server: `act` answers chats, `pages` and `listing` what is got, `asked` is what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.act: Act = says("Hel", "lo", ".")
        self.key: str | None = None
        self.pages: dict[str, Any] = {}
        self.listing: Any = None
        self.has_echo = self.has_bias = True
        self.asked: list[tuple[str, Json, str | None]] = []
        self.released = threading.Event()
        self.serves("scripted")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def chats(self) -> list[Json]:
        """The bodies of the chats that were asked for."""
        return [body for path, body, _ in self.asked if path == "/v1/chat/completions"]

    def serves(self, *names: str, owner: str = "somebody", **more: Any) -> None:
        """Choose the models that are listed."""
        cards = [{"id": name, "object": "model", "owned_by": owner, **more} for name in names]
        self.listing = {"object": "list", "data": cards}

    def talks_until_left(self) -> threading.Event:
        """Begin an answer without an end; return what is set when the client has hung up."""
        hung_up = threading.Event()

        def act(handler: Handler) -> None:
            handler.begin()
            try:
                while not self.released.wait(0.01):
                    handler.send(delta(content="word "))
            except OSError:
                hung_up.set()

        self.act = act
        return hung_up

    def hangs_after(self, *pieces: str) -> None:
        """Begin an answer, if there are pieces, and then say nothing until the test is over."""

        def act(handler: Handler) -> None:
            if pieces:
                handler.begin()
            for piece in pieces:
                handler.send(delta(content=piece))
            self.released.wait(30)

        self.act = act

    def complete(self, body: Json) -> tuple[int, Json]:
        """Return the answer to a completion that is not streamed."""
        prompt = body["prompt"]
        if body.get("echo"):
            known = [None, *(log_prob(i, prompt[i]) for i in range(1, len(prompt)))] if self.has_echo else []
            return 200, {"choices": [{"text": "", "logprobs": {"token_logprobs": [*known, -1.0]}}]}
        if not self.has_bias:
            return 400, {"error": {"message": "logit_bias is not supported"}}
        token = int(next(iter(body["logit_bias"])))
        found = {"id": token, "token": chr(token), "logprob": log_prob(len(prompt), token)}
        return 200, {"choices": [{"text": chr(token), "logprobs": {"content": [found]}}]}


@contextmanager
def running() -> Iterator[Scripted]:
    """Run a server on a thread."""
    server = Scripted()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
