"""The server as a real child: started, watched, killed, left running, found again."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from localllm.errors import LocalLLMError, ServerError
from tests.demo_model import require_demo_model
from tests.server.live import chat_body
from tests.tiny_model import write_tiny_model
from tests.tui.serving.test_request import free_port
from tui.serving import record
from tui.serving.api import NeedsKey, ServerAPI
from tui.serving.child import ServerChild
from tui.serving.request import ServeRequest
from tui.serving.server import Server

START_S = 60.0


async def until(condition: Callable[[], object], limit_s: float = START_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"after {limit_s:g} s it is not so"
        await asyncio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.is_watched = True
    yield made
    await made.close()
    if (left := record.find()) is not None:
        psutil.Process(left.pid).kill()


@pytest.fixture
def asked(tmp_path: Path) -> ServeRequest:
    path = write_tiny_model(tmp_path / "tiny.gguf", n_ctx=256)
    return ServeRequest(models=(f"tiny={path}",), port=free_port(), key="secret", n_slots=1)


async def started(server: Server, asked: ServeRequest) -> int:
    await server.start(asked)
    await until(lambda: server.view.phase != "starting")
    assert server.view.phase == "running", server.view.error and server.view.error.hint
    assert server._child is not None
    return server._child.pid


async def test_a_server_is_started_asked_and_stopped(server: Server, asked: ServeRequest) -> None:
    pid = await started(server, asked)
    assert server.view.is_own
    assert [model["id"] for model in server.view.models] == ["tiny"]
    assert "secret" not in " ".join(psutil.Process(pid).cmdline())
    with pytest.raises(NeedsKey):
        await asyncio.to_thread(ServerAPI(server.view.url, "wrong").status)
    await server.manage("load", "tiny")
    assert server.view.models[0]["state"] == "loaded"
    await server.manage("pin", "tiny")
    assert server.view.models[0]["pinned"]
    with pytest.raises(ServerError, match="pinned"):
        await server.manage("unload", "tiny")
    assert server.log is not None
    await until(lambda: server.log and any("loaded tiny" in line.text for line in server.log.lines))
    with pytest.raises(ServerError, match="already"):
        await server.start(asked)
    await server.stop()
    await until(lambda: server.view.phase == "stopped")
    assert server.view.error is None
    assert not psutil.pid_exists(pid)


@pytest.mark.real
async def test_tokens_of_a_real_model_are_counted(server: Server, asked: ServeRequest) -> None:
    demo = require_demo_model()
    await started(server, replace(asked, models=(f"demo={demo}",), n_ctx=512))
    await server.refresh()
    headers = {"authorization": "Bearer secret"}
    async with httpx.AsyncClient(base_url=server.view.url, headers=headers, timeout=START_S) as client:
        await server.manage("load", "demo")
        await server.refresh()
        response = await client.post("/v1/chat/completions", json=chat_body())
        assert response.status_code == 200
    await server.refresh()
    moments = server.view.history.moments
    assert any(moment.decode_tok_s > 0 and moment.prefill_tok_s > 0 for moment in moments)
    assert any(moment.ttft_s is not None and moment.ttft_s > 0 for moment in moments)
    assert server.view.models[0]["memory_bytes"] > 0


async def test_death_is_told_with_the_last_words_and_mended(server: Server, asked: ServeRequest) -> None:
    pid = await started(server, asked)
    psutil.Process(pid).kill()
    await until(lambda: server.view.phase == "ended")
    assert server.view.error is not None
    assert "The server ended (exit code" in server.view.error.message
    assert "serving" in (server.view.error.hint or "")
    assert await started(server, asked) != pid


async def test_a_server_that_does_not_start_says_why(server: Server, asked: ServeRequest) -> None:
    await server.start(ServeRequest(models=("no-such-model-anywhere",), port=asked.port))
    await until(lambda: server.view.phase == "ended")
    assert server.view.error is not None
    assert "did not start" in server.view.error.message
    assert "no-such-model-anywhere" in (server.view.error.hint or "")


async def test_it_ends_with_us_unless_it_was_left(server: Server, asked: ServeRequest) -> None:
    pid = await started(server, asked)
    await server.close()
    assert not psutil.pid_exists(pid)


async def test_a_left_server_runs_on_and_is_found_again(server: Server, asked: ServeRequest) -> None:
    pid = await started(server, asked)
    await server.leave()
    assert not server.view.is_own
    with pytest.raises(LocalLLMError):
        await server.leave()
    await server.close()
    other = Server()
    other.is_watched = True
    with pytest.raises(NeedsKey) as caught:
        await other.attach_again("")
    assert caught.value.url == f"http://127.0.0.1:{asked.port}"
    assert await other.attach_again("secret")
    assert other.view.phase == "running"
    assert other.log is not None
    await until(lambda: other.log and other.log.lines)
    await other.stop()
    await until(lambda: other.view.phase == "stopped")
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not await other.attach_again("secret")
    await other.close()


async def test_nothing_is_attached_to_where_nothing_is(server: Server) -> None:
    with pytest.raises(ServerError, match="No server answers"):
        await server.attach(f"http://127.0.0.1:{free_port()}", "")
    assert not server.is_up
    with pytest.raises(ServerError, match="started elsewhere"):
        await server.stop()


def test_a_killed_parent_takes_its_server_along(tmp_path: Path, asked: ServeRequest) -> None:
    """The parent dies by SIGKILL, and has no time to say anything."""
    path = tmp_path / "pid"
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from tui.serving.child import ServerChild\nfrom tui.serving.request import ServeRequest\n"
        f"asked = ServeRequest(models={asked.models!r}, port={asked.port})\n"
        f"child = ServerChild(asked.command, asked.environment, Path({str(tmp_path / 'x.log')!r}))\n"
        f"Path({str(path)!r}).write_text(str(child.pid))\ntime.sleep(600)\n"
    )
    parent = psutil.Popen([sys.executable, "-c", program])
    end = time.monotonic() + START_S
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    server = psutil.Process(int(path.read_text()))
    parent.kill()
    parent.wait()
    server.wait(START_S)
    assert not server.is_running()


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    child = ServerChild([sys.executable, "-c", "import time; time.sleep(600)"], {}, tmp_path / "log" / "x.log")
    child.ask_to_stop()
    assert not child.wait(0.05)
    child.kill()
    assert child.wait(START_S)
