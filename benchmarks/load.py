"""A client that takes little of the machine: raw sockets, and nothing is parsed until everything has arrived.

Runs in a process of its own, so that it shares no interpreter with what it measures: commands are lines of JSON on its
stdin, answers lines of JSON on its stdout.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

WAIT_S = 600.0

Received = list[tuple[float, bytes]]


class Load:
    """A started client process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def run(self, port: int, clients: list[list[dict[str, Any]]], path: str = "/v1/chat/completions") -> dict[str, Any]:
        """Send bodies and return what came back: `seconds`, `cpu_s` of this client, and `requests` in order.

        Args:
            port: of the server, on loopback.
            clients: what each client sends, one body after the other; the clients run at once.
            path: where to.

        Raises:
            RuntimeError: a request failed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        command = {"port": port, "path": path, "clients": clients}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        for request in result["requests"]:
            if request["error"]:
                raise RuntimeError(f"port {port}: {request['error']}")
        return result

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Stream(asyncio.Protocol):
    """One request, and everything that came back with its time of arrival."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.received: Received = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.started_s = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def _client(port: int, path: str, bodies: list[dict[str, Any]]) -> list[_Stream]:
    streams = []
    for body in bodies:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data
        _, stream = await asyncio.get_running_loop().create_connection(lambda r=request: _Stream(r), "127.0.0.1", port)
        await asyncio.wait_for(stream.ended, WAIT_S)
        streams.append(stream)
    return streams


async def _run(command: dict[str, Any]) -> dict[str, Any]:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    done = await asyncio.gather(*(_client(command["port"], command["path"], b) for b in command["clients"]))
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    return {"seconds": seconds, "cpu_s": cpu_s, "requests": [_measured(s) for streams in done for s in streams]}


def _measured(stream: _Stream) -> dict[str, Any]:
    """Return the figures of a streamed chat completion, in seconds and tokens."""
    times_s: list[float] = []
    usage: dict[str, Any] = {}
    text, error = "", None
    for when_s, line in _lines(stream.received):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            error = event.get("error") or error
            usage = event.get("usage") or usage
            delta = event["choices"][0]["delta"].get("content") if event.get("choices") else None
            if delta:
                times_s.append(when_s)
                text += delta
    if not times_s and error is None:
        error = b"".join(data for _, data in stream.received)[:300].decode("utf-8", "replace") or "no answer"
    return {
        "error": error,
        "ttft_s": times_s[0] - stream.started_s if times_s else None,
        "gaps_s": [b - a for a, b in pairwise(times_s)],
        "n_tokens": usage.get("completion_tokens", 0),
        "n_prompt": usage.get("prompt_tokens", 0),
        "n_cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        "text": text,
    }


def _lines(received: Received) -> Iterator[tuple[float, bytes]]:
    """Return each line of a chunked body with the time at which its end arrived."""
    raw = b"".join(data for _, data in received)
    at = raw.find(b"\r\n\r\n") + 4
    ends, total = [], 0
    for when_s, data in received:
        total += len(data)
        ends.append((total, when_s))
    pending, index = b"", 0
    while at > 3 and (stop := raw.find(b"\r\n", at)) >= 0:
        try:
            size = int(raw[at:stop], 16)
        except ValueError:
            return
        end = stop + 2 + size
        while index < len(ends) - 1 and ends[index][0] < end:
            index += 1
        *lines, pending = (pending + raw[stop + 2 : end]).split(b"\n")
        yield from ((ends[index][1], line) for line in lines)
        at = end + 2


def _serve() -> None:
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(asyncio.run(_run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
