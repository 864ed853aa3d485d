"""Tools and the token view as one meets them in a chat."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tui.chat.talking import Chat
from tests.tui.driving import ScriptedModels, screen_text, until
from tests.tui.test_tools import configure
from tui.app import LocalLLM
from tui.screens.approval import ApprovalScreen
from tui.screens.tokens import TokenScreen

CALL = f"<tool_call>\n{json.dumps({'name': 'tests__add', 'arguments': {'a': 2, 'b': 40}})}\n</tool_call>"


@pytest.fixture(autouse=True)
def scripted_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.chat.default_ref", lambda settings, used: next(iter(used), "scripted"))


@pytest.fixture
async def chat(app: LocalLLM) -> AsyncIterator[Chat]:
    async with app.run_test(size=(80, 24)) as pilot:
        yield await Chat.opened(app, pilot)


@pytest.mark.parametrize(("key", "told"), [("y", "42"), ("escape", "Error: The user did not allow this call")])
async def test_a_call_is_asked_for_and_its_result_goes_to_the_model(
    app: LocalLLM, models: ScriptedModels, home: Path, key: str, told: str
) -> None:
    configure(home)
    models.say(CALL, "The sum is told.")
    async with app.run_test(size=(80, 24)) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.press("a", "d", "d", "enter")
        await until(pilot, lambda: isinstance(app.screen, ApprovalScreen) and app.screen.is_armed, 20)
        assert "add of tests" in screen_text(app) and '"b": 40' in screen_text(app)
        await pilot.press(key)
        await until(pilot, lambda: "The sum is told." in screen_text(app))
        assert [text[: len(told)] for text in chat.texts if text][-2:] == [told, "The sum is told."[: len(told)]]
        prompt = models.backends["scripted"].calls[-1].prompt_text
        assert told in prompt


async def test_a_broken_file_of_tools_is_told_and_the_answer_comes(
    app: LocalLLM, models: ScriptedModels, home: Path
) -> None:
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "mcp.json").write_text("{")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.press("H", "i", "enter")
        await until(pilot, lambda: chat.texts == ["Hi", "Hello!"])
        assert any("is not JSON" in notice.message for notice in app._notifications)


async def test_another_way_from_a_token_is_another_branch(chat: Chat, models: ScriptedModels) -> None:
    await chat.press("H", "i", "enter")
    await until(chat.pilot, lambda: chat.texts == ["Hi", "Hello!"])
    chat.app.screen.query_one("Transcript").focus()
    await chat.press("t")
    await until(chat.pilot, lambda: isinstance(chat.app.screen, TokenScreen) and "6 tokens" in screen_text(chat.app))
    await chat.press("right", "right", "d")
    await until(chat.pilot, lambda: chat.texts == ["Hi", "HeHello!"])
    assert models.backends["scripted"].calls[-1].prompt_text.endswith("<assistant>He")
