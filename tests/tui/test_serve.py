"""The Serve screen, by its keys."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.scripted_backend import Script, ScriptedBackend
from tests.server.running import serving_scripted
from tests.tiny_model import write_tiny_model
from tests.tui.driving import screen_text, until
from tests.tui.serving.test_request import free_port
from tui.app import LocalLLM
from tui.messages import ServeModel
from tui.screens.confirm import ConfirmScreen
from tui.serving import record
from tui.widgets.serve_form import ServeForm

START_S = 60.0


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was copied."""
    found: list[str] = []
    monkeypatch.setattr(LocalLLM, "copy_to_clipboard", lambda self, text: found.append(text))
    return found


@pytest.fixture
def tiny(own: Path) -> str:
    """A model in our own folder."""
    own.mkdir(parents=True)
    write_tiny_model(own / "tiny.gguf", n_ctx=256)
    return "tiny"


async def fill(pilot: Pilot[None], **fields: str) -> None:
    for name, value in fields.items():
        pilot.app.screen.query_one(f"#serve-{name}", Input).value = value
    await pilot.pause()


async def open_form(pilot: Pilot[None]) -> None:
    await pilot.press("f5")
    await until(pilot, lambda: "Models to serve" in screen_text(pilot.app))  # type: ignore[arg-type]


async def test_keys_alone_start_use_and_stop_a_server(app: LocalLLM, tiny: str, copied: list[str]) -> None:
    port = free_port()
    server = app.services.server
    async with app.run_test(size=(80, 24)) as pilot:
        await open_form(pilot)
        await until(pilot, lambda: "[ ] tiny" in screen_text(app))
        await pilot.press("end", "space")
        await until(pilot, lambda: "[x] tiny" in screen_text(app))
        assert app.screen.query_one(ServeForm).request().models == (tiny,)
        await fill(pilot, port=str(port))
        await pilot.press("ctrl+g")
        key = app.screen.query_one("#serve-key", Input).value
        assert key in screen_text(app)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: server.view.phase == "running", START_S)
        await until(pilot, lambda: "● running" in screen_text(app))
        assert key not in screen_text(app)
        assert f"http://127.0.0.1:{port}/v1" in screen_text(app)
        await pilot.press("u", "k", "s", "y")
        assert copied[:2] == [f"http://127.0.0.1:{port}/v1", key]
        assert "OPENAI_BASE_URL" in copied[2]
        await pilot.press("s", "y")
        assert copied[3].startswith("curl")
        assert "[curl]" in screen_text(app)
        await pilot.press("l")
        await until(pilot, lambda: "loaded" in screen_text(app) and "unloaded" not in screen_text(app), START_S)
        await pilot.press("p")
        await until(pilot, lambda: "loaded, pinned" in screen_text(app))
        await pilot.press("f")
        await until(pilot, lambda: "Lines of level warning" in screen_text(app))
        await pilot.press("v")
        await until(pilot, lambda: "Throughput is drawn here" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: "Models to serve" in screen_text(app))
        assert server.view.phase == "stopped"


async def test_a_busy_port_is_said_before_starting(app: LocalLLM) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        async with app.run_test(size=(80, 24)) as pilot:
            await open_form(pilot)
            await fill(pilot, port=str(port))
            await until(pilot, lambda: f"Port {port} is busy" in screen_text(app))
            await pilot.press("ctrl+s")
            await pilot.pause()
            assert not app.services.server.is_up
            await fill(pilot, port=str(free_port()))
            await until(pilot, lambda: "is busy" not in screen_text(app))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("port", "abc", "The port is 'abc'"),
        ("ctx", "-1", "The context is '-1'"),
        ("slots", "0", "0 answers at once"),
        ("host", "0.0.0.0", "can be reached from other machines"),
    ],
)
async def test_what_is_wrong_is_said_in_place(app: LocalLLM, field: str, value: str, said: str) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await open_form(pilot)
        await fill(pilot, port=str(free_port()))
        await fill(pilot, **{field: value})
        app.screen.query_one(f"#serve-{field}").focus()
        await pilot.press("enter")
        await until(pilot, lambda: said in " ".join(screen_text(app).split()))
        assert not app.services.server.is_up


async def test_missing_packages_are_said_with_the_pip_line(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.serving.request._PACKAGES", ("no_such_package",))
    async with app.run_test(size=(80, 24)) as pilot:
        await open_form(pilot)
        assert 'pip install "localllm[server]"' in " ".join(screen_text(app).split())


async def test_a_killed_server_is_noticed_and_restarted(app: LocalLLM, tiny: str) -> None:
    server = app.services.server
    async with app.run_test(size=(80, 24)) as pilot:
        app.post_message(ServeModel(tiny))
        await until(pilot, lambda: "[x] tiny" in screen_text(app))
        await fill(pilot, port=str(free_port()))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: server.view.phase == "running", START_S)
        assert server._child is not None
        server._child.kill()
        await until(pilot, lambda: "✗ ended" in screen_text(app))
        assert "exit code" in screen_text(app)
        assert "serving" in screen_text(app)
        await pilot.press("r")
        await until(pilot, lambda: server.view.phase == "running", START_S)
        server._child.kill()
        await until(pilot, lambda: "✗ ended" in screen_text(app))
        await pilot.press("n")
        await until(pilot, lambda: "[x] tiny" in screen_text(app))


async def test_death_is_told_on_other_screens(app: LocalLLM, tiny: str) -> None:
    server = app.services.server
    async with app.run_test(size=(80, 24)) as pilot:
        await open_form(pilot)
        await fill(pilot, port=str(free_port()))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: server.view.phase == "running", START_S)
        await pilot.press("f7")
        assert server._child is not None
        server._child.kill()
        await until(pilot, lambda: any("The server ended" in one.message for one in app._notifications), START_S)


async def test_a_server_left_running_is_found_at_the_next_start(make_app: Callable[[], LocalLLM], tiny: str) -> None:
    port = free_port()
    first = make_app()
    async with first.run_test(size=(80, 24)) as pilot:
        first.post_message(ServeModel(tiny))
        await until(pilot, lambda: "[x] tiny" in screen_text(first))
        await fill(pilot, port=str(port))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: first.services.server.view.phase == "running", START_S)
        await pilot.press("d")
        await until(pilot, lambda: "runs by itself" in screen_text(first))
    left = record.find()
    assert left is not None
    second = make_app()
    async with second.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: "● running" in screen_text(second))
        assert f"127.0.0.1:{port}" in screen_text(second)
        await pilot.press("x")
        await until(pilot, lambda: "Models to serve" in screen_text(second))
    await_gone(left)


def await_gone(left: record.ServerRecord) -> None:
    import time

    end = time.monotonic() + START_S
    while left.is_running():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert record.find() is None


async def test_a_server_of_others_is_watched_and_not_stopped(app: LocalLLM) -> None:
    backend = ScriptedBackend(Script("word ", endless=True))
    with serving_scripted({"scripted": backend}) as running:
        async with app.run_test(size=(160, 50)) as pilot:
            await open_form(pilot)
            await fill(pilot, port=running.url.rpartition(":")[2])
            await until(pilot, lambda: "attach to it with Ctrl+T" in screen_text(app))
            await pilot.press("ctrl+t")
            await until(pilot, lambda: "● running" in screen_text(app))
            assert "scripted" in screen_text(app)
            assert "The log is where the server was started." in screen_text(app)
            await pilot.press("x")
            await until(pilot, lambda: any("started elsewhere" in one.message for one in app._notifications))
            await pilot.press("d")
            await until(pilot, lambda: "Models to serve" in screen_text(app))
        assert running.http.get("/health").status_code == 200


async def test_stopping_asks_while_requests_run(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    server = app.services.server

    async def stop() -> None:
        stopped.append(True)

    monkeypatch.setattr(server, "stop", stop)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_form(pilot)
        server.view.phase, server.view.can_stop = "running", True
        server.view.status = {"models": [], "requests": {"active": 2}, "uptime_s": 1.0}
        server.changed()
        await until(pilot, lambda: "● running" in screen_text(app))
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert "2 requests run. Stop the server?" in screen_text(app)
        await pilot.press("n")
        await until(pilot, lambda: not isinstance(app.screen, ConfirmScreen))
        assert stopped == []
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: stopped == [True])


async def test_a_wrong_key_is_asked_for_in_place(app: LocalLLM) -> None:
    from localllm.server.settings import key_digest

    with serving_scripted({"scripted": ScriptedBackend()}, key_digests=(key_digest("good"),)) as running:
        async with app.run_test(size=(80, 24)) as pilot:
            await open_form(pilot)
            await fill(pilot, port=running.url.rpartition(":")[2])
            await pilot.press("ctrl+t")
            await until(pilot, lambda: "needs a key" in screen_text(app))
            await fill(pilot, key="good")
            await pilot.press("ctrl+t")
            await until(pilot, lambda: "● running" in screen_text(app))
