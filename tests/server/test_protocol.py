"""What one connection may do: slow, endless and too many ones."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from localllm.server import serving
from tests.scripted_backend import Script
from tests.server.fakes import Loader, make_manager
from tests.server.live import LiveServer, chat_bytes, connect, post_bytes, read_all, read_until, wait_for

HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"


def seconds_until_cut_off(sock: socket.socket, piece: bytes) -> float:
    """Send `piece` again and again until the server has hung up."""
    started = time.monotonic()
    while time.monotonic() - started < 15.0:
        try:
            sock.sendall(piece)
        except OSError:
            break
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: loc", HEALTH + b"GET /hea"],
    ids=["nothing", "line", "headers", "second request"],
)
def test_headers_that_do_not_come_are_hung_up_on(begin: bytes) -> None:
    with LiveServer(header_timeout_s=0.3) as server, connect(server.port, 5.0) as sock:
        sock.sendall(begin)
        started = time.monotonic()
        read_all(sock)
        assert time.monotonic() - started < 3.0


def test_blank_lines_between_requests_do_not_keep_a_connection() -> None:
    with LiveServer(header_timeout_s=0.3) as server, connect(server.port, 5.0) as sock:
        sock.sendall(HEALTH)
        read_until(sock, b"ok")
        sock.sendall(b"\r\n")
        started = time.monotonic()
        read_all(sock)
        assert time.monotonic() - started < 3.0


def test_headers_that_come_drop_by_drop_are_hung_up_on() -> None:
    with LiveServer(header_timeout_s=0.5) as server, connect(server.port) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        assert seconds_until_cut_off(sock, b"x-header: y\r\n") < 3.0


@pytest.mark.parametrize("line", [b"x-long: " + b"y" * 1000, b"x-short: y\r\n"], ids=["one long line", "many lines"])
def test_endless_headers_are_431(line: bytes) -> None:
    with LiveServer() as server, connect(server.port) as sock:
        answer = b""
        try:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
            for _ in range(200_000):
                sock.sendall(line * 10)
        except OSError:
            pass
        sock.settimeout(1.0)
        answer += read_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_headers_that_are_too_large_say_so() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(b"GET /" + b"x" * 70_000)
        assert read_all(sock).startswith(b"HTTP/1.1 431 ")


def test_large_body_after_small_headers_is_not_taken_for_headers() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        for _ in range(3):
            sock.sendall(chat_bytes(user="x" * 200_000))
            assert read_until(sock, b'"finish_reason"').startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(
            chat_bytes() + HEALTH + chat_bytes() + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
        )
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200 ") == 4
    assert answer.count(b'"status":"ok"') == 2


def test_body_that_goes_on_for_ever_after_its_answer_is_hung_up_on() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        assert seconds_until_cut_off(sock, b"5\r\nhello\r\n") < 6.0


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100, b"NONSENSE\r\n\r\n", b"GET\r\n\r\n"]
)
def test_garbage_is_400_and_a_hang_up(garbage: bytes) -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(garbage)
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "lengths", [b"content-length: -1", b"content-length: 5\r\ncontent-length: 6", b"content-length: x"]
)
def test_lengths_that_make_no_sense_are_400(lengths: bytes) -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n" + lengths + b"\r\n\r\nhello")
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def test_connections_beyond_the_limit_are_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_max_connections", lambda settings: 20)
    with LiveServer() as server:
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(connect(server.port))
            wait_for(lambda: len(server.server.server_state.connections) == 20)
            with connect(server.port) as sock:
                answer = read_all(sock)
            assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer
        wait_for(lambda: not server.server.server_state.connections)
        with server.client() as client:
            assert client.get("/health").status_code == 200


def test_client_that_does_not_read_is_hung_up_on_and_its_request_cancelled() -> None:
    loader = Loader(scripts=(Script("word " * 4000, endless=True, delay_s=1e-6),))
    manager = make_manager(loader)

    def burst(app: ASGIApp) -> ASGIApp:
        """Make every piece large, so that the socket's buffers are full soon."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def large(message: dict[str, object]) -> None:
                if message["type"] == "http.response.body" and message.get("more_body"):
                    message = {**message, "body": b": " + b"x" * 100_000 + b"\n\n"}
                await send(message)

            await app(scope, receive, large)  # type: ignore[arg-type]

        return wrapped

    with LiveServer(manager, wrap=burst, write_timeout_s=0.5) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes(stream=True, max_tokens=100_000))
        wait_for(lambda: bool(loader.backends) and bool(loader.backends["a"].calls))
        assert loader.backends["a"].calls[0].cancelled.wait(10)
        wait_for(lambda: manager.find("a").n_leases == 0)


def test_request_without_a_host_is_refused() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 403 ")


def test_upgrade_to_a_websocket_is_answered_as_plain_http() -> None:
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(
            b"GET /health HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101 Switching" not in read_until(sock, b"\r\n\r\n")


def test_unread_body_of_a_missing_path_does_not_become_the_next_request() -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with LiveServer() as server, connect(server.port) as sock:
        sock.sendall(post_bytes("/nothing", smuggled) + HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        answer = read_all(sock)
    assert b'"object":"list"' not in answer
