"""`localllm serve` as a process: how it starts, stops, and refuses to start."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.scripted_backend import Script
from tests.server.fakes import Loader, make_manager
from tests.server.live import LiveServer, ServeProcess, chat_body, chat_bytes, connect, post_bytes, read_all, read_until
from tests.tiny_model import write_tiny_model

SMALL = ("--n-ctx", 2048, "--threads", 1)
SLOW_CHAT = chat_body(stream=True, max_tokens=400, ignore_eos=True)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens take some milliseconds."""
    path = tmp_path_factory.mktemp("models") / "slow.gguf"
    return write_tiny_model(path, n_layer=6, n_embd=256, n_head=4, n_head_kv=2, n_ff=1024, n_ctx=8192)


def refused(*arguments: object, env: dict[str, str] | None = None) -> str:
    """Run `localllm serve`, which must end at once with an error; return what it says."""
    command = [sys.executable, "-m", "localllm", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_taken_port_is_one_line_and_an_exit_code(slow: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = refused(slow, "--port", port)
    assert f"127.0.0.1:{port}" in text and "in use" in text
    assert len(text.strip().splitlines()) <= 2


def test_public_address_without_a_key_is_refused(slow: Path) -> None:
    text = refused(slow, "--host", "0.0.0.0", "--port", 0)
    assert "API key" in text and "--allow-open" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("/nowhere/at-all.gguf",), "at-all.gguf"),
        (("--tls-cert", "cert.pem"), "certificate"),
        (("--tls-cert", "missing.pem", "--tls-key", "missing.pem"), "missing.pem"),
        (("--api-key-file", "missing.txt"), "missing.txt"),
        (("--max-memory", "lots"), "--max-memory"),
        (("--pin", "nobody"), "nobody"),
        (("--port", "70000"), "70000"),
    ],
)
def test_settings_that_cannot_be_are_named(slow: Path, arguments: tuple[str, ...], named: str) -> None:
    models = () if arguments[0].endswith(".gguf") else (slow,)
    assert named in refused(*models, *arguments)


def test_key_from_the_environment_is_asked_for_and_never_shown(slow: Path) -> None:
    with ServeProcess(slow, *SMALL, env={"LOCALLLM_API_KEY": "canary-key"}) as server, server.client() as client:
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers={"authorization": "Bearer canary-key"}).status_code == 200
    assert "canary" not in "\n".join(server.log)


def test_stop_lets_a_running_stream_finish_and_is_a_success(slow: Path) -> None:
    with ServeProcess(slow, *SMALL) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes(**SLOW_CHAT))
        text = read_until(sock, b"content")
        (worker,) = server.workers()
        server.process.send_signal(signal.SIGTERM)
        text += read_all(sock)
        assert text.rstrip().endswith(b"data: [DONE]\n\n\r\n0") or b"data: [DONE]" in text
        assert b'"finish_reason":"length"' in text
        assert server.process.wait(20) == 0
        assert not _runs(worker)
    assert "Traceback" not in "\n".join(server.log)


def test_no_new_connections_while_stopping(slow: Path) -> None:
    with ServeProcess(slow, *SMALL) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes(**SLOW_CHAT))
        read_until(sock, b"content")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert answer_of_a_new_connection(server.port) == b""


def answer_of_a_new_connection(port: int) -> bytes:
    try:
        with connect(port) as sock:
            sock.sendall(chat_bytes())
            return read_all(sock)
    except OSError:
        return b""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_everything_at_once(slow: Path, second: signal.Signals) -> None:
    with ServeProcess(slow, *SMALL) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes(**{**SLOW_CHAT, "max_tokens": 1500}))
        read_until(sock, b"content")
        (worker,) = server.workers()
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert server.process.poll() is None
        started = time.monotonic()
        server.process.send_signal(second)
        assert server.process.wait(5) == 128 + second
        assert time.monotonic() - started < 2
        while _runs(worker):
            assert time.monotonic() - started < 15, "the worker outlives its server"
            time.sleep(0.05)


def test_killed_server_leaves_no_worker(slow: Path) -> None:
    with ServeProcess(slow, *SMALL, "--preload") as server, server.client() as client:
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200
        (worker,) = server.workers()
        server.process.kill()
        started = time.monotonic()
        while _runs(worker):
            assert time.monotonic() - started < 15, "the worker outlives its server"
            time.sleep(0.05)


def test_answers_that_take_too_long_to_stop_end_with_an_error_event() -> None:
    manager = make_manager(Loader(scripts=(Script("word ", endless=True),)))
    with LiveServer(manager, shutdown_s=0.5) as server:
        sock = connect(server.port)
        sock.sendall(chat_bytes(stream=True, max_tokens=100_000))
        read_until(sock, b"content")
        started = time.monotonic()
        server.server.should_exit = True
        text = read_all(sock)
        assert b"model_unloaded" in text and b"[DONE]" not in text
        assert time.monotonic() - started < 5
        sock.close()


def test_stop_during_a_load_does_not_wait_for_it() -> None:
    loader = Loader(load_s=30.0)
    with LiveServer(make_manager(loader), shutdown_s=0.5) as server:
        sock = connect(server.port)
        sock.sendall(chat_bytes())
        assert loader.is_loading.wait(5)
        started = time.monotonic()
        server.server.should_exit = True
        assert b"503" in read_all(sock)
        sock.close()
    assert time.monotonic() - started < 10


def test_half_sent_requests_do_not_hold_up_a_stop() -> None:
    with LiveServer(shutdown_s=0.5, body_timeout_s=1.0, header_timeout_s=1.0) as server:
        socks = [connect(server.port) for _ in range(3)]
        socks[0].sendall(post_bytes("/v1/chat/completions", b"", content_length="100"))
        socks[1].sendall(b"GET /health HTTP/1.1\r\nhost:")
        started = time.monotonic()
    assert time.monotonic() - started < 8
    for sock in socks:
        sock.close()


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", str(key), "-out", str(certificate)]
    names = ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", "-x509", *made, *names], check=True, capture_output=True)
    return certificate, key


def test_https_works_with_the_users_certificate(tls_files: tuple[Path, Path]) -> None:
    certificate, key = tls_files
    with LiveServer(tls_cert=certificate, tls_key=key) as server:
        trust = ssl.create_default_context(cafile=str(certificate))
        url = f"https://localhost:{server.port}"
        with httpx.Client(base_url=url, verify=trust, timeout=20) as client:
            assert client.get("/health").json() == {"status": "ok"}
            text = client.post("/v1/chat/completions", json=chat_body(stream=True)).text
            assert text.endswith("data: [DONE]\n\n")
        with connect(server.port) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"200" not in read_all(sock)


def _runs(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
