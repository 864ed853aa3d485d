"""The gate: host, origin, key, size and time, over real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from localllm.server.settings import MIB, key_digest
from tests.server.live import LiveServer, chat_body, chat_bytes, connect, post_bytes, read_all, read_until

ROUTES = ["/v1/models", "/v1/chat/completions", "/v1/admin/status", "/metrics", "/nothing"]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(max_body_bytes=MIB, max_body_values=1000) as server:
        yield server


@pytest.fixture
def client(server: LiveServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def error_of(response: httpx.Response) -> dict[str, str]:
    error: dict[str, str] = response.json()["error"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    return error


def test_rebound_name_is_refused(client: httpx.Client) -> None:
    """A page of evil.example whose name was pointed at 127.0.0.1 sends its own name as the host."""
    for path in ("/health", "/", *ROUTES):
        response = client.get(path, headers={"host": "evil.example"})
        assert response.status_code == 403
        assert error_of(response)["code"] == "host_not_allowed"


def test_rebound_name_that_is_also_the_origin_is_refused(client: httpx.Client) -> None:
    headers = {"host": "evil.example", "origin": "http://evil.example"}
    assert client.post("/v1/chat/completions", json=chat_body(), headers=headers).status_code == 403


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "file://"])
def test_page_of_a_foreign_origin_cannot_post(
    server: LiveServer, client: httpx.Client, origin: str, kind: str | None
) -> None:
    """Also as a "simple" request, which browsers send without asking first."""
    n_loads = len(server.loader.loads)
    headers = {"origin": origin} | ({"content-type": kind} if kind else {})
    for path in ("/v1/chat/completions", "/v1/admin/models/load", "/v1/admin/models/unload"):
        response = client.post(path, content=json.dumps(chat_body(model="a")), headers=headers)
        assert response.status_code == 403
        assert error_of(response)["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in response.headers
    assert len(server.loader.loads) == n_loads


def test_preflight_of_a_foreign_origin_is_refused(client: httpx.Client) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    response = client.options("/v1/chat/completions", headers=headers)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_servers_own_page_may_post(server: LiveServer, client: httpx.Client) -> None:
    response = client.post("/v1/chat/completions", json=chat_body(), headers={"origin": server.url})
    assert response.status_code == 200


def test_listed_origin_may_post_and_read() -> None:
    origin = "https://app.example"
    with LiveServer(cors_origins=(origin,)) as server, server.client() as client:
        asked = {"origin": origin, "access-control-request-method": "POST"}
        assert client.options("/v1/chat/completions", headers=asked).status_code == 200
        response = client.post("/v1/chat/completions", json=chat_body(), headers={"origin": origin})
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
        assert client.get("/v1/models", headers={"origin": "https://evil.example"}).status_code == 403


def test_missing_and_wrong_keys_are_401() -> None:
    with LiveServer(key_digests=(key_digest("right"), key_digest("other"))) as server, server.client() as client:
        for path in ROUTES:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": "Basic right"}):
                response = client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert error_of(response)["code"] == "invalid_api_key"
        for headers in (
            {"authorization": "Bearer right"},
            {"authorization": "bearer  other"},
            {"x-api-key": "right"},
        ):
            assert client.get("/v1/models", headers=headers).status_code == 200


def test_only_paths_that_tell_nothing_are_open_without_a_key() -> None:
    with LiveServer(key_digests=(key_digest("right"),)) as server, server.client() as client:
        assert client.get("/health").json() == {"status": "ok"}
        for path in ("/health/", "//health", "/health/../v1/models", "/%76%31/models", "/health%2f..%2fv1/models"):
            assert client.get(server.url + path).status_code in (401, 404)


def test_key_that_is_not_text_is_only_wrong() -> None:
    with LiveServer(key_digests=(key_digest("right"),)) as server, connect(server.port) as sock:
        head = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        sock.sendall(head + b"authorization: Bearer \xff\xfe\xc3\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 401 ")


def test_body_that_says_that_it_is_too_large_is_413(client: httpx.Client) -> None:
    response = client.post("/v1/chat/completions", content=b"x" * (2 * MIB))
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"


def test_body_that_turns_out_too_large_is_413(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/v1/chat/completions", content=(b"x" * 65536 for _ in range(32)), headers=headers)
    assert response.status_code == 413


def test_client_that_sends_too_much_is_told_why_before_it_is_hung_up_on(server: LiveServer) -> None:
    """It reads its answer only after it has sent everything, as most clients do."""
    with connect(server.port) as sock:
        sock.sendall(post_bytes("/v1/chat/completions", b"x" * (20 * MIB)))
        assert read_until(sock, b"too_large").startswith(b"HTTP/1.1 413 ")


def test_body_of_too_many_values_is_400(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json={"prompt": [1] * 2000})
    assert response.status_code == 400
    assert error_of(response)["code"] == "too_many_values"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 900,
        b'{"a":' * 900,
        b"\xff\xfe",
        b"NaN",
        b'{"messages": "hello"}',
        b'{"messages": []}',
        b'{"messages": [1]}',
        b'{"messages": [{}]}',
        b'{"messages": [{"role": "user"}], "max_tokens": 1e999}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"1": NaN}}',
        b'{"messages": [{"role": "\\ud800", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "model": "\\ud800"}',
        b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "\\udfff"}}',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_malformed_body_is_400(client: httpx.Client, body: bytes) -> None:
    response = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert error_of(response)["type"] == "invalid_request_error"


def test_body_that_does_not_come_is_408() -> None:
    with LiveServer(body_timeout_s=0.3) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes()[:-5])
        started = time.monotonic()
        answer = read_until(sock, b"request_timeout")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 3


def test_body_that_comes_drop_by_drop_is_408_all_the_same() -> None:
    with LiveServer(body_timeout_s=0.5) as server, connect(server.port) as sock:
        request = chat_bytes()
        sock.sendall(request[:-100])
        answer = b""
        sock.settimeout(0.05)
        for index in range(100):
            try:
                sock.sendall(request[-100 + index : len(request) - 99 + index])
                answer += sock.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if b"request_timeout" in answer:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_bodies_of_all_requests_together_are_bounded() -> None:
    with LiveServer(max_body_bytes=MIB, max_bodies_bytes=2 * MIB) as server:
        pending = [connect(server.port) for _ in range(3)]
        request = post_bytes("/v1/chat/completions", b" " * MIB)
        for sock in pending:
            sock.sendall(request[:-100])
        answers: list[bytes] = []
        for sock in pending:
            sock.settimeout(1.0)
            try:
                answers.append(sock.recv(65536))
            except TimeoutError:
                answers.append(b"")
        refused = [answer for answer in answers if answer]
        assert len(refused) == 1
        assert refused[0].startswith(b"HTTP/1.1 503 ") and b"retry-after: 5" in refused[0]
        for sock in pending:
            sock.close()
        with server.client() as client:
            response = client.post("/v1/chat/completions", json=chat_body(user="x" * (MIB - 500)))
            assert response.status_code == 200


def test_admin_routes_can_be_switched_off() -> None:
    with LiveServer(admin=False) as server, server.client() as client:
        for verb in ("load", "unload", "pin", "unpin"):
            response = client.post(f"/v1/admin/models/{verb}", json={"model": "a"})
            assert response.status_code == 403
        assert server.loader.loads == []


def test_key_is_asked_for_before_the_body_is_read() -> None:
    with LiveServer(key_digests=(key_digest("right"),)) as server, connect(server.port) as sock:
        sock.sendall(chat_bytes()[:-5])
        assert read_until(sock, b"\r\n").startswith(b"HTTP/1.1 401 ")


def test_client_that_asks_first_is_not_invited_to_send_what_is_refused(server: LiveServer) -> None:
    with connect(server.port) as sock:
        sock.sendall(post_bytes("/v1/chat/completions", b"", content_length=str(9 * MIB), expect="100-continue"))
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer


def test_half_sent_request_of_a_client_that_left_leaves_nothing(server: LiveServer, client: httpx.Client) -> None:
    for cut in (10, 60, 150, -1):
        sock = connect(server.port)
        sock.sendall(chat_bytes()[:cut])
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    assert client.get("/health").status_code == 200


def test_connection_goes_on_after_an_answer_and_ends_after_a_refusal_in_the_middle_of_a_body(
    server: LiveServer,
) -> None:
    with connect(server.port) as sock:
        for _ in range(2):
            sock.sendall(chat_bytes(model="nobody"))
            assert b"connection: close" not in read_until(sock, b"model_not_found")
            sock.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"connection: close" not in read_until(sock, b'"object"')
        sock.sendall(post_bytes("/v1/chat/completions", b"x" * (2 * MIB)))
        assert b"connection: close" in read_all(sock)
