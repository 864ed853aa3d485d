"""Streams: what keeps them alive, what ends them, and what is left when a client has gone."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import pytest

from localllm.engine.events import ErrorInfo
from localllm.server.sse import ClientGone, PieceStream, unless_gone
from tests.scripted_backend import Script, crash
from tests.server.fakes import Loader, make_manager
from tests.server.live import LiveServer, chat_body, chat_bytes, connect, metric, read_until, wait_for


def serve(*scripts: Script | str, **settings: object) -> LiveServer:
    loader = Loader(scripts=scripts or ("Hello!",))
    server = LiveServer(make_manager(loader), **settings)
    server.loader = loader
    return server


def events_of(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_stream_arrives_piece_by_piece_and_ends() -> None:
    with serve(Script("Hello!", delay_s=0.02)) as server, server.client() as client:
        times = []
        with client.stream("POST", "/v1/chat/completions", json=chat_body(stream=True)) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-cache"
            lines = []
            for line in response.iter_lines():
                lines.append(line)
                times.append(time.monotonic())
    assert lines[-2:] == ["data: [DONE]", ""]
    assert times[-1] - times[0] > 0.05


def test_comments_come_while_there_is_nothing_to_say() -> None:
    with serve(Script("ab", delay_s=0.5), keep_alive_s=0.1) as server, server.client() as client:
        text = client.post("/v1/chat/completions", json=chat_body(stream=True)).text
    assert 6 <= text.count(": keep-alive\n\n") <= 14
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in events_of(text)) == "ab"
    assert text.endswith("data: [DONE]\n\n")


def test_busy_stream_has_no_comments() -> None:
    with serve(Script("x" * 50, delay_s=0.02), keep_alive_s=0.3) as server, server.client() as client:
        text = client.post("/v1/chat/completions", json=chat_body(stream=True, max_tokens=50)).text
    assert "keep-alive" not in text


def test_crash_in_the_middle_is_an_error_event_and_no_done() -> None:
    with serve(crash("Half an ans")) as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=chat_body(stream=True, max_tokens=50))
    assert response.status_code == 200
    *_, last = events_of(response.text)
    assert last["error"]["code"] == "worker_crashed"
    assert "[DONE]" not in response.text
    assert "Half an ans" in "".join(e["choices"][0]["delta"].get("content", "") for e in events_of(response.text)[:-1])


def test_crash_of_a_whole_answer_is_its_status() -> None:
    with serve(crash("Half an ans")) as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=chat_body(max_tokens=50))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "worker_crashed"


def test_error_that_is_known_before_the_first_byte_is_a_status_also_when_streaming() -> None:
    with serve() as server, server.client() as client:
        body = chat_body(stream=True) | {"messages": [{"role": "user", "content": "x" * 5000}]}
        response = client.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert client.post("/v1/chat/completions", json=chat_body(stream=True, model="no")).status_code == 404
        assert client.post("/v1/chat/completions", json=chat_body(stream=True, top_p=7)).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_hangs_up_cancels_its_request(stream: bool) -> None:
    with serve(Script("word ", endless=True)) as server:
        with connect(server.port) as sock:
            sock.sendall(chat_bytes(stream=stream, max_tokens=100_000))
            wait_for(lambda: bool(server.loader.backends) and bool(server.loader.backends["a"].calls))
            time.sleep(0.05)
        call = server.loader.backends["a"].calls[0]
        assert call.cancelled.wait(5)
        wait_for(lambda: server.manager.find("a").n_leases == 0)
        with server.client() as client:
            assert metric(client, "requests_admitted") == 0
            assert 'outcome="cancelled"' in client.get("/metrics").text


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_hangs_up_during_the_load_leaves_nothing(stream: bool) -> None:
    loader = Loader(load_s=0.5)
    with LiveServer(make_manager(loader)) as server:
        with connect(server.port) as sock:
            sock.sendall(chat_bytes(stream=stream))
            assert loader.is_loading.wait(5)
        wait_for(lambda: server.manager.find("a").n_leases == 0)
        wait_for(lambda: server.manager.find("a").is_loaded)
        assert loader.backends["a"].calls == []


def test_many_clients_that_hang_up_leave_nothing() -> None:
    with serve(Script("word ", endless=True)) as server, server.client() as client:
        for index in range(60):
            with connect(server.port) as sock:
                sock.sendall(chat_bytes(stream=bool(index % 2), max_tokens=100_000))
                if index % 3:
                    time.sleep(0.003 * (index % 7))
        backend = server.loader.backends["a"]
        wait_for(lambda: all(call.cancelled.is_set() for call in backend.calls))
        wait_for(lambda: server.manager.find("a").n_leases == 0)
        assert metric(client, "requests_admitted") == 0


def test_forced_unload_ends_a_stream_with_an_error_event() -> None:
    with serve(Script("word ", endless=True)) as server, server.client() as client, connect(server.port) as sock:
        sock.sendall(chat_bytes(stream=True, max_tokens=100_000))
        read_until(sock, b"content")
        assert client.post("/v1/admin/models/unload", json={"model": "a", "force": True}).status_code == 200
        assert b"model_unloaded" in read_until(sock, b'"error"')


def test_request_that_meets_a_dead_worker_is_served_by_a_new_one() -> None:
    with serve() as server, server.client() as client:
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200
        dead = server.loader.backends["a"]
        dead.closed = True
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200
        assert server.loader.backends["a"] is not dead


def test_worker_that_dies_at_every_request_is_an_error_after_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    from localllm.errors import WorkerCrashed
    from tests.server.fakes import FakeBackend

    def die(self: FakeBackend, *arguments: object) -> int:
        self.crashed = True
        raise WorkerCrashed("The worker process ended.")

    monkeypatch.setattr(FakeBackend, "submit", die)
    with serve() as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=chat_body())
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "worker_crashed"
        assert server.loader.loads == ["a", "a"]


def test_bug_in_the_middle_of_a_stream_is_an_error_event_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from localllm.server.wire.chat import ChatReply

    def broken(self: ChatReply, event: object) -> bytes:
        raise KeyError("canary")

    monkeypatch.setattr(ChatReply, "accept", broken)
    with serve() as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=chat_body(stream=True))
        assert "internal_error" in response.text and "canary" not in response.text
        whole = client.post("/v1/chat/completions", json=chat_body())
        assert whole.status_code == 500 and "canary" not in whole.text
        assert client.get("/health").status_code == 200


def test_failing_engine_is_named() -> None:
    script = Script("Hi", error=ErrorInfo("DecodeFailed", "llama_decode returned -3.", None))
    with serve(script) as server, server.client() as client:
        response = client.post("/v1/chat/completions", json=chat_body())
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_error"


def test_beyond_the_limit_requests_are_503_and_may_come_back() -> None:
    with serve(Script("word ", delay_s=0.02), max_requests=2) as server, server.client() as client:
        busy = [connect(server.port) for _ in range(2)]
        for sock in busy:
            sock.sendall(chat_bytes(stream=True, max_tokens=1000))
            read_until(sock, b"content")
        response = client.post("/v1/chat/completions", json=chat_body())
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "overloaded"
        assert client.get("/health").status_code == 200
        for sock in busy:
            sock.close()
        wait_for(lambda: metric(client, "requests_admitted") == 0)
        assert client.post("/v1/chat/completions", json=chat_body()).status_code == 200


def test_hung_worker_holds_up_neither_other_models_nor_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from tests.server.fakes import FakeBackend

    hung = threading.Event()
    loader = Loader()
    monkeypatch.setattr(FakeBackend, "stats", lambda self: hung.wait(20))
    submit = FakeBackend.submit

    def hang(self: FakeBackend, *arguments: Any) -> int:
        if self is loader.backends.get("a"):
            hung.wait(20)
        return submit(self, *arguments)

    monkeypatch.setattr(FakeBackend, "submit", hang)
    with LiveServer(make_manager(loader, "a", "b")) as server, server.client() as client:
        clients = [connect(server.port) for _ in range(60)]
        for sock in clients:
            sock.sendall(chat_bytes(model="a"))
        wait_for(lambda: server.manager.find("a").n_leases == 60)
        started = time.monotonic()
        assert client.post("/v1/chat/completions", json=chat_body(model="b")).status_code == 200
        for _ in range(2):
            assert "localllm_requests_admitted 60.0" in client.get("/metrics").text
        assert time.monotonic() - started < 8
        hung.set()
        for sock in clients:
            sock.close()


async def _never() -> None:
    await asyncio.sleep(60)


def test_work_is_cancelled_when_the_client_goes() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await _never()
        finally:
            ended.append("work")

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(ClientGone):
            await unless_gone(receive, work)

    asyncio.run(run())
    assert ended == ["work"]


def test_works_own_error_is_raised_and_nothing_is_left_running() -> None:
    async def fail() -> None:
        raise ValueError

    async def receive() -> dict[str, Any]:
        await _never()
        raise AssertionError

    async def run() -> int:
        with pytest.raises(ValueError):  # noqa: PT011
            await unless_gone(receive, fail)
        return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed")])
def test_stream_whose_client_cannot_be_written_to_closes_its_generator(failure: Exception) -> None:
    from contextlib import AsyncExitStack

    ended: list[str] = []

    async def pieces() -> Any:
        try:
            yield b"data: 1\n\n"
            await _never()
        finally:
            ended.append("pieces")

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise failure

    async def receive() -> dict[str, Any]:
        await _never()
        raise AssertionError

    async def run() -> None:
        stack = AsyncExitStack()
        stack.callback(ended.append, "cleanup")
        stream = PieceStream(pieces(), stack, media_type="text/event-stream", keep_alive=b"", keep_alive_s=1)
        with suppress(RuntimeError):
            await stream({}, receive, send)

    asyncio.run(run())
    assert ended == ["pieces", "cleanup"]
