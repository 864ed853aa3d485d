"""Help lists what can be done, and the palette finds and does it."""

from __future__ import annotations

import pytest
from textual.command import CommandPalette
from textual.widgets import Input, OptionList

from tests.tui.driving import screen_text, until
from tui.app import LocalLLM
from tui.commands import AppCommands
from tui.keys import all_bindings, bindings_here
from tui.messages import ChatWith
from tui.modes import ALL_MODES
from tui.screens.confirm_quit import ConfirmQuit
from tui.screens.help import HERE, HelpScreen
from tui.widgets.filter_list import FilterList


@pytest.mark.parametrize("mode", ALL_MODES, ids=lambda mode: mode.name)
async def test_everything_that_can_be_done_is_in_help_and_in_the_palette(app: LocalLLM, mode: object) -> None:
    assert hasattr(mode, "name")
    async with app.run_test(size=(80, 24)) as pilot:
        await app.switch_mode(mode.name)
        await pilot.pause()
        here = bindings_here(app.screen, {})
        offered = AppCommands(app.screen)
        await offered.startup()
        titles = {command.title for command in offered._commands}
        assert [bound.id for _, _, bound in here if not any(bound.description in title for title in titles)] == []
        assert {"app.quit", "app.help", "app.commands"} <= {bound.id for _, _, bound in here}
        await app.action_help()
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and app.screen._known)
        listed = app.screen.query_one(FilterList).row_ids
        assert set(listed) >= {bound.id for bound in all_bindings({})}
        assert len(listed) == len(set(listed))


async def test_help_begins_with_the_present_screen(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7", "f1")
        await until(pilot, lambda: HERE in screen_text(app))
        text = screen_text(app)
        assert text.index(HERE) < text.index("Everywhere")
        assert "Settings: Every setting" in text
        await pilot.press("escape")
        await until(pilot, lambda: app.current_mode == "settings" and not isinstance(app.screen, HelpScreen))


async def test_a_question_mark_asks_for_help_where_nothing_is_typed(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f7")
        await pilot.press("question_mark")
        assert not isinstance(app.screen, HelpScreen)
        app.set_focus(None)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))


async def palette(app: LocalLLM, pilot: object, words: str) -> None:
    await until(pilot, lambda: isinstance(app.screen, CommandPalette))  # type: ignore[arg-type]
    app.screen.query_one(Input).value = words
    options = app.screen.query_one(OptionList)
    await until(pilot, lambda: options.option_count and words in str(options.options[0].prompt))  # type: ignore[arg-type]


async def test_the_palette_goes_to_a_screen(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+p")
        await palette(app, pilot, "Hardware")
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "hardware")


async def test_the_palette_changes_the_theme_and_opens_settings(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+p")
        await palette(app, pilot, "Theme: nord")
        await pilot.press("enter")
        await until(pilot, lambda: app.theme == "nord")
        await pilot.press("ctrl+p")
        await palette(app, pilot, "Setting: top_k")
        await pilot.press("enter")
        await until(pilot, lambda: "Draw from this many likeliest tokens" in screen_text(app))


async def test_the_palette_begins_a_chat_with_a_model(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[object] = []
    monkeypatch.setattr("localllm.store.inventory.Inventory.models", property(lambda self: ["one"]))
    monkeypatch.setattr("localllm.store.inventory.Inventory.ref", lambda self, model: "org/[b]model")
    monkeypatch.setattr(app, "post_message", posted.append)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        offered = AppCommands(app.screen)
        await offered.startup()
        hits = [hit async for hit in offered.search("Chat with org")]
        assert [hit.text for hit in hits] == ["Chat with org/[b]model"]
        hits[0].command()
        sent = [message for message in posted if isinstance(message, ChatWith)]
        assert [message.ref for message in sent] == ["org/[b]model"]


async def test_quitting_asks_only_while_something_would_end(app: LocalLLM) -> None:
    endings = ["A server with 2 requests."]
    app.services.busy_checks.append(lambda: endings)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, ConfirmQuit))
        assert "A server with 2 requests." in screen_text(app)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, ConfirmQuit))
        assert app.is_running
        await pilot.press("ctrl+q", "enter")
        assert app.return_code == 0


async def test_quitting_is_one_key_else(app: LocalLLM) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+q")
        assert app.return_code == 0
