"""A server on a loopback port: the application in a thread, or `localllm serve` in a process; and a raw client."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
from starlette.types import ASGIApp

from localllm.server.app import create_app
from localllm.server.manager import ModelManager
from localllm.server.serving import bound_socket, make_server
from localllm.server.settings import ServerSettings
from tests.server.fakes import Loader, make_manager

START_S = 30.0


class LiveServer:
    """The application on a thread of this process.

    Args:
        manager: what it serves; scripted models unless given.
        wrap: put around the application.
        settings: fields of ServerSettings.
    """

    def __init__(
        self,
        manager: ModelManager | None = None,
        *,
        wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **settings: object,
    ) -> None:
        self.loader = Loader()
        self.manager = manager or make_manager(self.loader)
        self._settings = ServerSettings(**({"port": 0} | settings))  # type: ignore[arg-type]
        self._wrap = wrap
        self._started = threading.Event()

    def __enter__(self) -> Self:
        sock = bound_socket(self._settings)
        self.port: int = sock.getsockname()[1]
        app = self._wrap(create_app(self._settings, self.manager))
        self.server = make_server(app, self._settings, on_start=self._started.set, on_overdue=self.manager.close)
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [sock]}, daemon=True)
        self._thread.start()
        assert self._started.wait(START_S)
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.should_exit = True
        self._thread.join(START_S)
        assert not self._thread.is_alive(), "the server did not stop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, **options)


class ServeProcess:
    """`localllm serve` in a process of its own."""

    def __init__(self, *arguments: object, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "localllm", "serve", "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, **(env or {})}
        )
        self.log: list[str] = []
        self._address = threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip()
            self.log.append(line)
            if found := re.search(r"API +(https?://[^/ ]+)/v1", line):
                self.url = found[1]
                self._address.set()
        self._address.set()

    def __enter__(self) -> Self:
        self._address.wait(START_S)
        if not self.url:
            self.process.kill()
            raise AssertionError("the server did not start: " + "\n".join(self.log))
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self._reader.join(5)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)

    def workers(self) -> list[int]:
        """Return the worker processes' ids."""
        import psutil

        return [child.pid for child in psutil.Process(self.process.pid).children()]


def chat_body(**fields: object) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, **fields}


def post_bytes(path: str, body: bytes, **headers: str) -> bytes:
    lines = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def chat_bytes(**fields: object) -> bytes:
    """Return a whole request for a chat completion."""
    return post_bytes("/v1/chat/completions", json.dumps(chat_body(**fields)).encode())


def connect(port: int, timeout_s: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def read_all(sock: socket.socket) -> bytes:
    """Read until the server hangs up."""
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return data
        if not piece:
            return data
        data += piece


def read_until(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        piece = sock.recv(65536)
        assert piece, f"hung up after {data!r}"
        data += piece
    return data


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def metric(client: httpx.Client, name: str) -> float:
    """Return the sum of a metric's values."""
    text = client.get("/metrics").text
    found = re.findall(rf"^localllm_{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in found)


def tiny_path(folder: Path, **shape: Any) -> Path:
    from tests.tiny_model import write_tiny_model

    return write_tiny_model(folder / "tiny.gguf", n_ctx=2048, **shape)
