"""Requests and answers as they are on the wire, for what clients hide."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from localllm.conformance.check import Unmet, expect, shown

Json = dict[str, Any]

MAX_ANSWER_BYTES = 16 << 20
"""No answer to our requests is longer; one that is would fill the memory."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Json:
        """The body, a JSON object.

        Raises:
            Unmet: it is something else.
        """
        try:
            value = json.loads(self.text)
        except ValueError:
            raise Unmet("a JSON body", f"HTTP {self.status}: {self.text}") from None
        expect(isinstance(value, dict), "a JSON object", value)
        return dict(value)

    def ok(self) -> Json:
        """Return the body of an answer that must be HTTP 200."""
        expect(self.status == 200, "HTTP 200", f"HTTP {self.status}: {self.text}")
        return self.json

    @property
    def error(self) -> Json:
        """The error in the body; empty where there is none of the usual shape."""
        try:
            error = self.json.get("error")
        except Unmet:
            return {}
        return error if isinstance(error, dict) else {"message": str(error)} if error else {}


class SseEvent(NamedTuple):
    """One server-sent event."""

    name: str
    data: str


@dataclass
class Stream:
    """A stream of server-sent events, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str
    events: list[SseEvent] = field(default_factory=list)
    n_comments: int = 0

    @property
    def chunks(self) -> list[Json]:
        """The events' JSON objects, without the [DONE] at the end.

        Raises:
            Unmet: there is an error among them, or something else than objects.
        """
        found = [_parsed(event) for event in self.events if event.data != "[DONE]"]
        for chunk in found:
            expect(chunk.get("error") is None, "a stream without an error", chunk.get("error"))
        return found

    def choices(self, index: int = 0) -> list[Json]:
        """The choices of this index, in order."""
        return [c for chunk in self.chunks for c in chunk.get("choices") or [] if c.get("index", 0) == index]

    def deltas(self, index: int = 0) -> list[Json]:
        return [choice.get("delta") or {} for choice in self.choices(index)]

    def content(self, index: int = 0) -> str:
        """All of the visible text."""
        return "".join(delta.get("content") or "" for delta in self.deltas(index))

    def tool_deltas(self) -> list[Json]:
        return [call for delta in self.deltas() for call in delta.get("tool_calls") or []]

    def finish_reason(self, index: int = 0) -> str | None:
        """The last finish reason that is given."""
        reasons = [c.get("finish_reason") for c in self.choices(index) if c.get("finish_reason")]
        return reasons[-1] if reasons else None


def _parsed(event: SseEvent) -> Json:
    try:
        value = json.loads(event.data)
    except ValueError:
        raise Unmet("JSON in each event", event.data) from None
    expect(isinstance(value, dict), "a JSON object in each event", value)
    return dict(value)


def parse_sse(text: str) -> tuple[list[SseEvent], int]:
    """Return the events of a stream, and how many comments were between them."""
    events, n_comments = [], 0
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = "", []
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line.startswith(":"):
                n_comments += 1
            elif key == "data":
                data.append(value)
            elif key == "event":
                name = value
        if data:
            events.append(SseEvent(name, "\n".join(data)))
    return events, n_comments


class Wire:
    """HTTP requests to one server.

    Args:
        root_url: without the /v1.
        key: the API key; None sends none.
        timeout_s: for each read and write.
    """

    def __init__(self, root_url: str, key: str | None, timeout_s: float) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # A connection for each request: one that is kept may be closed by the server in the moment it is used again.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            base_url=root_url,
            headers=headers,
            timeout=timeout_s,
            trust_env=False,
            limits=limits,
            # Certificates take a while to load, and plain HTTP needs none.
            verify=root_url.startswith("https"),
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON; bytes are sent as they are."""
        return await self.request("POST", path, body, headers=headers)

    async def request(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the whole answer."""
        async with self.open(method, path, body, headers=headers) as response:
            data = await _read(response)
        return Answer(response.status_code, response.headers, data.decode("utf-8", "replace"))

    async def stream(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Stream:
        """Return a stream that was read to its end.

        Raises:
            Unmet: it is not UTF-8.
        """
        async with self.open("POST", path, body, headers=headers) as response:
            data = await _read(response)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unmet("a stream in UTF-8", data[max(error.start - 20, 0) : error.end + 20]) from None
        return Stream(response.status_code, response.headers, text, *parse_sse(text))

    @asynccontextmanager
    async def open(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and hand out the answer while it comes; leaving the block hangs up."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if body is not None else {}
        async with self._client.stream(method, path, content=content, headers={**sent, **(headers or {})}) as response:
            yield response


async def _read(response: httpx.Response) -> bytes:
    pieces, n_bytes = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        n_bytes += len(piece)
        if n_bytes > MAX_ANSWER_BYTES:
            raise Unmet(f"an answer under {MAX_ANSWER_BYTES >> 20} MiB", f"it goes on: {shown(pieces[0])}")
    return b"".join(pieces)
