"""`localllm ps` asks a server, prints a table or JSON, and says what is wrong when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from localllm.cli.ps import STATUS_PATH
from tests.cli.conftest import Cli

LOADED = {
    "id": "small", "state": "loaded", "pinned": True, "load_progress": None, "size_bytes": 98_362_432,
    "memory_bytes": 512 << 20, "context_length": 8192, "slots": 4, "running": 2, "waiting": 1, "requests": 3,
    "kv_cells": 8192, "kv_cells_used": 100, "idle_s": None, "error": None,
}  # fmt: skip
UNLOADED = LOADED | {
    "id": "large", "state": "unloaded", "pinned": False, "memory_bytes": None, "context_length": None, "slots": None,
    "running": 0, "waiting": 0, "requests": 0,
}  # fmt: skip


def status_of(*models: dict[str, Any]) -> dict[str, Any]:
    return {"version": "0.1.0", "uptime_s": 5.0, "requests": {"active": 3, "refused": 0, "max": 256}, "models": models}


@contextmanager
def answering(body: Any, *, status: int = 200, key: str | None = None) -> Iterator[str]:
    """A server that answers the status' path, to those with the key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = key is None or self.headers.get("authorization") == f"Bearer {key}"
            answer = body if isinstance(body, bytes) else json.dumps(body).encode()
            code = 401 if not is_known else 404 if self.path != STATUS_PATH else status
            self.send_response(code)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_table_shows_each_model(cli: Cli) -> None:
    with answering(status_of(LOADED, UNLOADED)) as url:
        result = cli("ps", "--url", url)
    head, small, large = result.out.splitlines()
    assert result.code == 0
    assert head.split() == ["model", "state", "memory", "context", "running", "waiting", "idle"]
    assert small.split() == ["small", "loaded", "512.00", "MiB", "8,192", "2/4", "1", "pinned"]
    assert large.split() == ["large", "unloaded"]


def test_idle_time_and_loading_are_shown(cli: Cli) -> None:
    loading = UNLOADED | {"state": "loading", "load_progress": 0.42}
    with answering(status_of(LOADED | {"idle_s": 185.0}, loading)) as url:
        out = cli("ps", "--url", url).out
    assert "3 min" in out
    assert "loading 42%" in out


def test_failed_model_says_why(cli: Cli) -> None:
    with answering(status_of(UNLOADED | {"state": "failed", "error": "Needs 21.4 GiB,\x1b[2J 16.0 GiB free."})) as url:
        out = cli("ps", "--url", url).out
    assert "large: Needs 21.4 GiB,[2J 16.0 GiB free." in out


def test_json_is_what_the_server_said(cli: Cli) -> None:
    with answering(status_of(LOADED)) as url:
        result = cli("ps", "--json", "--url", url)
    assert json.loads(result.out) == json.loads(json.dumps(status_of(LOADED)))


def test_path_of_an_api_is_left_out_of_the_address(cli: Cli) -> None:
    with answering(status_of(LOADED)) as url:
        assert cli("ps", "--url", f"{url.removeprefix('http://')}/v1").code == 0


def test_key_comes_from_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(status_of(LOADED), key="secret") as url:
        refused = cli("ps", "--url", url)
        monkeypatch.setenv("LOCALLLM_API_KEY", "secret")
        allowed = cli("ps", "--url", url)
    assert (refused.code, refused.out) == (9, "")
    assert "needs a key" in refused.err
    assert "LOCALLLM_API_KEY" in refused.err
    assert allowed.code == 0


def test_nobody_answers(cli: Cli) -> None:
    with answering({}) as url:
        pass
    result = cli("ps", "--url", url)
    assert (result.code, result.out) == (9, "")
    assert f"No server answers at {url}" in result.err
    assert "localllm serve" in result.err


@pytest.mark.parametrize(("body", "status"), [(b"<html>", 200), (b"[]", 200), ({"error": {"message": "no"}}, 404)])
def test_other_servers_are_told_apart(cli: Cli, body: Any, status: int) -> None:
    with answering(body, status=status) as url:
        result = cli("ps", "--url", url)
    assert result.code == 9
    assert "not a localllm server" in result.err


@pytest.mark.parametrize("url", ["", ":80", "ftp://localhost", "http://localhost:99999"])
def test_address_that_is_none_is_refused(cli: Cli, url: str) -> None:
    result = cli("ps", "--url", url)
    assert result.code == 6
    assert "is not a server's address" in result.err


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, localllm.cli.ps;"
        "print(*(m for m in ('llama_cpp', 'numpy', 'fastapi', 'httpx', 'pydantic', 'rich') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
