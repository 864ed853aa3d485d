"""The server with real workers, while things go wrong."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.server.live import (
    ServeProcess,
    chat_body,
    chat_bytes,
    connect,
    metric,
    post_bytes,
    read_until,
    wait_for,
)
from tests.tiny_model import write_tiny_model

SMALL = ("--n-ctx", 2048, "--threads", 1)
MIB = 1 << 20
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models whose tokens take some milliseconds."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"n_layer": 6, "n_embd": 256, "n_head": 4, "n_head_kv": 2, "n_ff": 1024, "n_ctx": 8192}
    return [write_tiny_model(folder / f"{name}.gguf", seed=seed, **shape) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def server(models: list[Path]) -> Iterator[ServeProcess]:
    with ServeProcess(*models, *SMALL, "--slots", 4) as server:
        yield server


@pytest.fixture
def client(server: ServeProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def ask(client: httpx.Client, model: str = "one", **fields: object) -> httpx.Response:
    return client.post("/v1/chat/completions", json=chat_body(model=model, temperature=0, ignore_eos=True, **fields))


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


def worker_of(server: ServeProcess, model: Path) -> int:
    """Return the id of the worker that has this file mapped."""
    import psutil

    for pid in server.workers():
        if any(mapped.path == str(model) for mapped in psutil.Process(pid).memory_maps()):
            return pid
    raise AssertionError(f"no worker has {model}")


@posix_only
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_killed_worker_is_an_error_event_and_the_next_request_works(
    server: ServeProcess, client: httpx.Client, models: list[Path], how: signal.Signals
) -> None:
    known = text_of(ask(client, "one")), text_of(ask(client, "two"))
    other = worker_of(server, models[1])
    with connect(server.port) as sock:
        sock.sendall(chat_bytes(model="one", stream=True, max_tokens=1500, ignore_eos=True))
        read_until(sock, b"content")
        os.kill(worker_of(server, models[0]), how)
        assert b"worker_crashed" in read_until(sock, b'"error"')
    started = time.monotonic()
    assert text_of(ask(client, "one")) == known[0]
    (load_s,) = [float(line.rpartition(" in ")[2].split()[0]) for line in server.log if "loaded one in" in line][-1:]
    assert time.monotonic() - started < load_s + 2
    assert worker_of(server, models[1]) == other
    assert text_of(ask(client, "two")) == known[1]


@posix_only
def test_worker_killed_while_idle_costs_nobody_a_request(
    server: ServeProcess, client: httpx.Client, models: list[Path]
) -> None:
    known = text_of(ask(client, "one"))
    for _ in range(3):
        os.kill(worker_of(server, models[0]), signal.SIGKILL)
        assert text_of(ask(client, "one")) == known


@posix_only
def test_worker_that_hangs_holds_up_no_other_model_and_can_be_replaced(
    server: ServeProcess, client: httpx.Client, models: list[Path]
) -> None:
    text_of(ask(client, "one"))
    text_of(ask(client, "two"))
    pid = worker_of(server, models[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        socks = [connect(server.port) for _ in range(20)]
        for sock in socks:
            sock.sendall(chat_bytes(model="one"))
        time.sleep(0.2)
        started = time.monotonic()
        text_of(ask(client, "two"))
        assert client.get("/metrics").status_code == 200
        assert client.get("/v1/models").status_code == 200
        assert time.monotonic() - started < 6
        forced = client.post("/v1/admin/models/unload", json={"model": "one", "force": True})
        assert forced.status_code == 200
        text_of(ask(client, "one"))
        for sock in socks:
            sock.close()
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_sixty_four_clients_at_once_all_finish_or_are_told_to_come_back(server: ServeProcess) -> None:
    def one(index: int) -> httpx.Response:
        with server.client() as client:
            return ask(client, "one", max_tokens=16, stream=bool(index % 2), user=f"client {index}")

    with ThreadPoolExecutor(64) as pool:
        responses = list(pool.map(one, range(64)))
    for response in responses:
        assert response.status_code in (200, 503)
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) > 0
        elif response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n")
        else:
            assert response.json()["usage"]["completion_tokens"] == 16
    assert sum(response.status_code == 200 for response in responses) == 64


def test_clients_beyond_the_limit_are_told_to_come_back(models: list[Path]) -> None:
    with ServeProcess(models[0], *SMALL, "--max-requests", 8, "--slots", 4) as server:

        def one(index: int) -> httpx.Response:
            with server.client() as client:
                return ask(client, "one", max_tokens=64)

        with ThreadPoolExecutor(64) as pool:
            responses = list(pool.map(one, range(64)))
        statuses = {response.status_code for response in responses}
        assert statuses == {200, 503}
        assert all(response.headers["retry-after"] for response in responses if response.status_code == 503)
        with server.client() as client:
            assert text_of(ask(client))


def test_body_of_100_mb_is_413_and_takes_no_memory(server: ServeProcess, client: httpx.Client) -> None:
    import psutil

    text_of(ask(client))
    before = psutil.Process(server.process.pid).memory_info().rss
    chunk = b"x" * MIB
    response = client.post("/v1/chat/completions", content=chunk * 100)
    assert response.status_code == 413
    unannounced = client.post("/v1/chat/completions", content=(chunk for _ in range(100)))
    assert unannounced.status_code == 413
    assert psutil.Process(server.process.pid).memory_info().rss - before < 80 * MIB
    text_of(ask(client))


def test_body_of_many_values_does_not_hold_up_the_streams_of_others(server: ServeProcess, client: httpx.Client) -> None:
    """32 MB of numbers took Python ten seconds and three gigabytes to look at."""
    body = b'{"model": "one", "prompt": [' + b"1," * (15 * MIB) + b"1]}"
    with connect(server.port) as sock:
        sock.sendall(chat_bytes(model="one", stream=True, max_tokens=1500, ignore_eos=True))
        read_until(sock, b"content")
        with ThreadPoolExecutor(1) as pool:
            refused = pool.submit(client.post, "/v1/completions", content=body)
            longest_s, last_s = 0.0, time.monotonic()
            while not refused.done():
                sock.recv(65536)
                now = time.monotonic()
                longest_s, last_s = max(longest_s, now - last_s), now
            assert refused.result().status_code == 400
        assert longest_s < 2.0


def test_slow_clients_do_not_hold_up_others(server: ServeProcess, client: httpx.Client) -> None:
    half_sent = [connect(server.port) for _ in range(150)]
    for index, sock in enumerate(half_sent):
        sock.sendall(chat_bytes()[:-10] if index % 2 else b"POST /v1/chat/completions HTTP/1.1\r\nhost: local")
    started = time.monotonic()
    text_of(ask(client))
    assert time.monotonic() - started < 10
    for sock in half_sent:
        sock.close()


@pytest.mark.parametrize("n_clients", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_clients_that_hang_up_leave_no_sequence_and_no_cells(models: list[Path], n_clients: int) -> None:
    """At random points: before the answer, in the prompt, in the middle; streamed or not."""
    with ServeProcess(models[0], *SMALL, "--slots", 4) as server, server.client() as client:
        known = text_of(ask(client))
        rng = random.Random(0)

        def hang_up(seed: int) -> None:
            own = random.Random(seed)
            prompt = "word " * own.choice((1, 50, 300))
            fields = {"messages": [{"role": "user", "content": f"{seed} {prompt}"}], "n": own.choice((1, 1, 2))}
            with connect(server.port) as sock:
                request = chat_bytes(model="one", stream=own.random() < 0.7, max_tokens=400, ignore_eos=True, **fields)
                sock.sendall(request if own.random() < 0.9 else request[: own.randrange(len(request))])
                time.sleep(own.choice((0.0, 0.01, 0.1, 0.5)) * own.random())
                if own.random() < 0.3:
                    sock.settimeout(0.2)
                    with suppress(TimeoutError):
                        sock.recv(own.choice((1, 1000)))

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(hang_up, (rng.randrange(1 << 30) for _ in range(n_clients))))
        wait_for(lambda: metric(client, "requests_admitted") == 0, 20)
        wait_for(lambda: metric(client, "requests_running") + metric(client, "requests_waiting") == 0, 20)
        # What is used is what the prefix cache keeps, and nothing else.
        assert metric(client, "kv_cells_used") == metric(client, "kv_cells_idle")
        assert text_of(ask(client)) == known
        assert len(server.workers()) == 1


def test_two_models_under_a_limit_that_fits_one_take_turns(models: list[Path]) -> None:
    with ServeProcess(models[0], *SMALL) as probe, probe.client() as client:
        text_of(ask(client))
        needed = client.get("/v1/models/one").json()["meta"]["memory_bytes"]
    limit = f"{needed * 3 // 2 // 1024}KB"
    with ServeProcess(*models, *SMALL, "--max-memory", limit) as server, server.client() as client:

        def one(index: int) -> httpx.Response:
            with server.client() as own:
                return ask(own, ("one", "two")[index % 2])

        with ThreadPoolExecutor(6) as pool:
            responses = list(pool.map(one, range(12)))
        assert [response.status_code for response in responses] == [200] * 12
        assert {text_of(r) for r in responses[::2]} != {text_of(r) for r in responses[1::2]}
        assert len(server.workers()) == 1
        assert metric(client, "model_evictions_total") >= 1
        last = next(m["id"] for m in client.get("/v1/models").json()["data"] if m["state"] == "loaded")
        other = {"one": "two", "two": "one"}[last]
        assert client.post("/v1/admin/models/pin", json={"model": last}).status_code == 200
        refused = ask(client, other)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_enough_memory"
        assert text_of(ask(client, last))


def test_model_file_that_goes_bad_is_an_error_and_its_repair_is_noticed(models: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(models[0].read_bytes())
    with ServeProcess(f"m={path}", models[1], *SMALL) as server, server.client() as client:
        path.write_bytes(models[0].read_bytes()[:5000])
        response = ask(client, "m")
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "model_error"
        assert client.get("/v1/models/m").json()["state"] == "failed"
        text_of(ask(client, "two"))
        path.write_bytes(models[0].read_bytes())
        time.sleep(1.1)
        assert text_of(ask(client, "m"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's prlimit")
def test_server_that_may_write_nothing_to_disk_works(models: list[Path], tmp_path: Path) -> None:
    """Everything that is written anywhere but to a pipe or a socket fails, as on a full disk."""
    import resource

    command = [sys.executable, "-m", "localllm", "serve", "--port", "0", *map(str, (models[0], *SMALL))]
    log, limit = tmp_path / "log.txt", 1000
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stderr=stderr,
            preexec_fn=lambda: (
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            ),
        )
    try:
        wait_for(lambda: "/docs" in log.read_text(), 30)
        url = log.read_text().partition("API   ")[2].partition("/v1")[0]
        with httpx.Client(base_url=url, timeout=60) as client:
            for _ in range(30):
                assert client.get("/v1/models").status_code == 200
            assert log.stat().st_size == limit, "the log shall be full"
            assert text_of(ask(client)) and client.get("/metrics").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts open files in /proc")
def test_nothing_is_left_open_after_crashes_reloads_and_hang_ups(
    server: ServeProcess, client: httpx.Client, models: list[Path]
) -> None:
    import psutil

    def count() -> tuple[int, int]:
        process = psutil.Process(server.process.pid)
        return process.num_fds(), len(server.workers())

    def round_trip() -> None:
        text_of(ask(client, "one"))
        os.kill(worker_of(server, models[0]), signal.SIGKILL)
        text_of(ask(client, "one"))
        assert client.post("/v1/admin/models/unload", json={"model": "one"}).status_code == 200
        with connect(server.port) as sock:
            sock.sendall(chat_bytes(model="one", stream=True))
        text_of(ask(client, "one"))

    round_trip()
    before = count()
    for _ in range(4):
        round_trip()
    time.sleep(0.5)
    assert count() == before


def test_unread_answers_and_abandoned_uploads_do_not_fill_the_server(
    server: ServeProcess, client: httpx.Client
) -> None:
    socks = []
    for _ in range(40):
        sock = connect(server.port)
        sock.sendall(post_bytes("/v1/chat/completions", b" " * 100_000, content_length="200000"))
        socks.append(sock)
    text_of(ask(client))
    for sock in socks:
        sock.close()
    wait_for(lambda: metric(client, "requests_admitted") == 0)
