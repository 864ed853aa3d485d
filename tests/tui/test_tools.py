"""The list of tools, and the question before each call: every key, and what must not happen by accident."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from localllm.tools import NamedTool, PendingCall, ServerTool, Verdict
from tests.tools.conftest import server_config
from tests.tui.driving import screen_text, until
from tui.app import LocalLLM
from tui.screens.approval import ApprovalScreen, ask
from tui.screens.tools import ToolsScreen


def a_call(**changes: Any) -> PendingCall:
    facts: dict[str, Any] = {
        "server": "files",
        "name": "delete_file",
        "description": "Delete a file.",
        "schema": {"type": "object"},
        "is_simplified": False,
        "is_read_only": None,
        "is_destructive": None,
    }
    arguments = changes.pop("arguments", {"path": "/home/me/notes.txt"})
    return PendingCall(NamedTool("files__delete_file", ServerTool(**(facts | changes))), arguments)


async def answer(app: LocalLLM, keys: list[str], call: PendingCall | None = None, grace_s: float = 0.0) -> Verdict:
    """Show a call, press keys, and return what they said."""
    said: list[Verdict | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(ApprovalScreen(call or a_call(), grace_s), said.append)
        await pilot.press(*keys)
        await until(pilot, lambda: said)
    assert said[0] is not None
    return said[0]


@pytest.mark.parametrize(
    ("keys", "verdict"),
    [
        (["y"], Verdict("once")),
        (["a"], Verdict("always")),
        (["v"], Verdict("never")),
        (["escape"], Verdict("refuse")),
        (["n", "enter"], Verdict("refuse")),
        (["n", *"no y", "enter"], Verdict("refuse", "no y")),
        (["n", "escape"], Verdict("refuse")),
    ],
)
async def test_each_key_says_what_it_says(app: LocalLLM, keys: list[str], verdict: Verdict) -> None:
    assert await answer(app, ["space" if key == " " else key for key in keys]) == verdict


async def test_keys_that_were_meant_for_something_else_decide_nothing(app: LocalLLM) -> None:
    said: list[Verdict | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        screen = ApprovalScreen(a_call(), grace_s=60.0)
        await app.push_screen(screen, said.append)
        await pilot.press("y", "e", "a", "h", "escape", "n")
        assert said == [] and not screen.query_one("#reason").has_class("-shown")
        assert not screen.is_armed
        screen.grace_s = 0.0
        await pilot.press("y")
        await until(pilot, lambda: said)
    assert said == [Verdict("once")]


async def test_what_is_shown_is_all_of_it_and_harmless(app: LocalLLM) -> None:
    call = a_call(
        name="rm[red]\x1b[31m",
        description="[link=x]free\u202emoney",
        arguments={"text": "a\x1b]0;x\x07[bold]", "n": list(range(200))},
        is_destructive=True,
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(ApprovalScreen(call))
        await pilot.pause()
        text = screen_text(app)
        assert "rm[red]␛[31m of files" in text
        assert "[link=x]free‹U+202E›money" in text
        assert '"text": "a\\u001b]0;x\\u0007[bold]"' in text
        assert "it may destroy things. Nobody has checked that." in text
        await pilot.press("end")
        await until(pilot, lambda: "199" in screen_text(app))


async def test_who_stops_waiting_takes_the_question_away(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        asking = asyncio.create_task(ask(app, a_call()))
        await until(pilot, lambda: isinstance(app.screen, ApprovalScreen))
        asking.cancel()
        await until(pilot, lambda: not isinstance(app.screen, ApprovalScreen))
        assert asking.cancelled()


async def test_a_call_of_a_model_goes_through_the_question(make_app: Callable[[], LocalLLM], home: Path) -> None:
    from localllm.chat.messages import FunctionCall, ToolCall

    configure(home)
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        tools = app.services.tools.runner(7)
        assert tools.specs() == []
        await tools.prepare()
        assert "tests__add" in [spec["function"]["name"] for spec in tools.specs()]
        call = ToolCall(FunctionCall("tests__add", '{"a": 1, "b": 2}'))
        running = asyncio.create_task(tools.run(call))
        await until(pilot, lambda: isinstance(app.screen, ApprovalScreen) and app.screen.is_armed)
        await pilot.press("a")
        assert await running == "3"
        assert await tools.run(call) == "3"
    assert app.services.tools.servers is None


def configure(home: Path, **servers: object) -> None:
    config = server_config()
    entry = {"command": config.command, "args": config.args, "env": config.env, "cwd": config.cwd}
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "mcp.json").write_text(json.dumps({"mcpServers": {"tests": entry, **servers}}))


async def test_servers_and_tools_are_listed_and_switched(app: LocalLLM, home: Path) -> None:
    configure(home, gone={"command": "no-such-program-here"}, bad={})
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("f8")
        await until(pilot, lambda: "[x] add  Add two numbers." in screen_text(app))
        assert "bad  not usable" in screen_text(app) and "gone  failed" in screen_text(app)
        assert 'bad: It needs either "command" or "url".' in screen_text(app)
        await pilot.press("down", "down")
        assert "Arguments: a, b" in screen_text(app) and "says that it only reads" in screen_text(app)
        await pilot.press("space")
        approvals = app.services.tools.approvals(app.services.tools.chat_id)
        assert not approvals.is_on("tests__add") and "[ ] add" in screen_text(app)
        await pilot.press("enter")
        assert approvals.is_on("tests__add")
        approvals.remember("tests__add", Verdict("always"))
        await pilot.press("space", "space")
        assert "always allowed" in screen_text(app)
        await pilot.press("f")
        assert approvals.standing("tests__add") is None and "always allowed" not in screen_text(app)
        await pilot.press("end")
        assert "gone cannot be started" in screen_text(app)
        await pilot.press("escape")
        assert not isinstance(app.screen, ToolsScreen)


async def test_a_server_is_restarted_and_the_file_read_again(app: LocalLLM, home: Path) -> None:
    configure(home)
    async with app.run_test(size=(80, 24)) as pilot:
        belt = app.services.tools
        await pilot.press("f8")
        await until(pilot, lambda: belt.servers and belt.servers.states[0].phase == "ready")
        assert belt.servers is not None
        before = (await belt.servers.call("tests__pid", {})).text
        await pilot.press("r")
        await until(pilot, lambda: belt.servers and belt.servers.states[0].phase == "starting")
        await until(pilot, lambda: belt.servers and belt.servers.states[0].phase == "ready")
        assert (await belt.servers.call("tests__pid", {})).text != before
        (home / "config" / "mcp.json").write_text('{"mcpServers": {}}')
        await pilot.press("l")
        await until(pilot, lambda: "There are no tool servers yet" in screen_text(app))


async def test_a_broken_file_is_said_in_place(app: LocalLLM, home: Path) -> None:
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "mcp.json").write_text("{")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f8")
        await until(pilot, lambda: "is not JSON" in screen_text(app))


async def test_the_reason_is_typed_where_keys_do_not_decide(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(ApprovalScreen(a_call(), 0.0))
        await pilot.press("n", "y", "a", "v")
        assert app.screen.query_one("#reason", Input).value == "yav"
