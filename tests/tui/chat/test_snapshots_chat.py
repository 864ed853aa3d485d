"""How the chat's screen and its dialogs look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localllm.errors import NotEnoughMemory
from tests.tui.chat.talking import Chat
from tests.tui.driving import SIZES, ScriptedModels, until
from tui.app import LocalLLM
from tui.chat.choices import ModelChoice

Compare = Callable[..., bool]
CHOICES = [
    ModelChoice("@127.0.0.1:8080/qwen3-8b", "Running in localllm serve", detail="loaded there already"),
    ModelChoice("scripted", "On this disk", 98_000_000, "Q4_1 · demo"),
    ModelChoice("@lab", "On other machines", detail="llama-3.1-8b"),
]


@pytest.fixture(autouse=True)
def scripted_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.chat.default_ref", lambda settings, used: "scripted")
    monkeypatch.setattr("tui.screens.model_picker.model_choices", lambda: CHOICES)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_empty(app: LocalLLM, snap_compare: Compare, size: tuple[int, int]) -> None:
    async def open_it(pilot: Any) -> None:
        await Chat.opened(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=open_it)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_answer_and_the_list(
    app: LocalLLM, models: ScriptedModels, snap_compare: Compare, size: tuple[int, int]
) -> None:
    models.say("Because of **Rayleigh scattering**:\n\n- blue light is scattered most\n- red light least\n")

    async def talk(pilot: Any) -> None:
        chat = await Chat.opened(app, pilot)
        await chat.ask("Why is the sky blue?")
        if size[0] < 100:
            await chat.press("ctrl+b")
        await until(pilot, lambda: chat.store.conversations())

    assert snap_compare(app, terminal_size=size, run_before=talk)


def test_a_model_that_does_not_fit(app: LocalLLM, models: ScriptedModels, snap_compare: Compare) -> None:
    models.errors["scripted"] = NotEnoughMemory("Needs 21.4 GiB, 16.0 GiB free.", hint="Try Q4_K_M or --n-ctx 8192.")

    async def talk(pilot: Any) -> None:
        await (await Chat.opened(app, pilot)).ask("Hi")

    assert snap_compare(app, terminal_size=SIZES[0], run_before=talk)


@pytest.mark.parametrize("key", ["ctrl+o", "ctrl+e", "alt+l"])
def test_dialogs(app: LocalLLM, snap_compare: Compare, key: str) -> None:
    async def show(pilot: Any) -> None:
        await Chat.opened(app, pilot)
        await pilot.press(key)
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.pause(0.2)

    assert snap_compare(app, terminal_size=SIZES[0], run_before=show)
