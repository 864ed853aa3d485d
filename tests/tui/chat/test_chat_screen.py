"""The chat's screen, driven by its keys."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from localllm.conversations import ConversationStore
from localllm.errors import ModelNotFound, NotEnoughMemory
from tests.scripted_backend import Script, crash
from tests.tui.chat.talking import Chat
from tests.tui.driving import ScriptedModels, screen_text, until
from tui.app import LocalLLM
from tui.chat.choices import ModelChoice
from tui.messages import ChatWith
from tui.screens.chat_settings import ChatSettings
from tui.screens.search import SearchScreen
from tui.widgets.conversation_list import ConversationList
from tui.widgets.engine_notice import EngineNotice

WIDE, NARROW = (120, 40), (80, 24)


@pytest.fixture(autouse=True)
def scripted_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model is there, whatever this machine has."""
    monkeypatch.setattr("tui.screens.chat.default_ref", lambda settings, used: next(iter(used), "scripted"))


@pytest.fixture
async def chat(app: LocalLLM) -> AsyncIterator[Chat]:
    async with app.run_test(size=WIDE) as pilot:
        yield await Chat.opened(app, pilot)


async def test_typing_and_enter_is_all_it_takes(chat: Chat, models: ScriptedModels) -> None:
    await chat.press("H", "i", "enter")
    await until(chat.pilot, lambda: "Hello!" in screen_text(chat.app))
    assert chat.texts == ["Hi", "Hello!"] and chat.composer.text == ""
    assert models.loads == ["scripted"] and chat.shown.title == "Hi"


async def test_one_may_type_and_send_while_the_model_loads(
    app: LocalLLM, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()

    def slow(ref: str, *, on_progress: Callable[[float], None], **options: Any) -> Any:
        on_progress(0.5)
        assert may_load.wait(10)
        return models(ref, on_progress=on_progress)

    monkeypatch.setattr(app.services.engines, "_open_llm", slow)
    async with app.run_test(size=NARROW) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.press("H", "i", "enter", "m", "o", "r", "e")
        assert chat.composer.text == "more" and "Hi" in screen_text(app)
        may_load.set()
        await until(pilot, lambda: "Hello!" in screen_text(app))
        assert chat.composer.text == "more"


async def test_a_model_that_cannot_be_loaded_is_said_in_place(chat: Chat, models: ScriptedModels) -> None:
    models.errors["scripted"] = NotEnoughMemory("Needs 21.4 GiB, 16.0 GiB free.", hint="Try Q4_K_M.")
    await chat.ask("Hi")
    await until(chat.pilot, lambda: "Ctrl+R tries again" in chat.notice)
    assert "Needs 21.4 GiB" in chat.notice and "Try Q4_K_M." in chat.notice
    assert "Needs 21.4 GiB" in screen_text(chat.app)
    del models.errors["scripted"]
    await chat.press("ctrl+r")
    await until(chat.pilot, lambda: chat.texts == ["Hi", "Hello!"])
    assert not chat.screen.query_one(EngineNotice).has_class("-shown")


async def test_a_load_that_failed_before_any_question_is_tried_again(chat: Chat, models: ScriptedModels) -> None:
    models.errors["scripted"] = NotEnoughMemory("Needs 21.4 GiB.", hint="Try Q4_K_M.")
    await chat.write("H")
    await until(chat.pilot, lambda: "Needs 21.4 GiB" in screen_text(chat.app))
    del models.errors["scripted"]
    await chat.press("ctrl+r")
    await until(chat.pilot, lambda: not chat.screen.query_one(EngineNotice).has_class("-shown"))
    assert chat.texts == [] and models.loads == ["scripted", "scripted"]


async def test_without_any_model_it_says_where_to_get_one(app: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.chat.default_ref", lambda settings, used: None)
    async with app.run_test(size=NARROW) as pilot:
        chat = await Chat.opened(app, pilot)
        assert "F3" in screen_text(app)
        await chat.ask("Hi")
        assert chat.path[-1].state == "failed" and chat.texts[0] == "Hi"


async def test_escape_stops(chat: Chat, models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    await chat.write("Sing")
    await chat.press("enter")
    await until(chat.pilot, lambda: len(chat.path) == 2 and chat.path[1].text)
    await chat.press("escape")
    await chat.idle()
    assert chat.path[1].state == "stopped"


async def test_again_makes_a_branch_and_the_transcript_goes_between_them(chat: Chat, models: ScriptedModels) -> None:
    models.say("First", "Second")
    await chat.ask("Hi")
    await chat.press("ctrl+r")
    await until(chat.pilot, lambda: chat.texts == ["Hi", "Second"])
    await chat.idle()
    assert "2/2" in screen_text(chat.app) and "First" not in screen_text(chat.app)
    chat.screen.query_one("Transcript").focus()
    await chat.press("end", "left")
    await until(chat.pilot, lambda: chat.texts == ["Hi", "First"])
    assert "1/2" in screen_text(chat.app)


async def test_editing_a_question_branches(chat: Chat, models: ScriptedModels) -> None:
    models.say("First", "Second")
    await chat.ask("Hi")
    chat.screen.query_one("Transcript").focus()
    await chat.press("home", "e")
    await until(chat.pilot, lambda: "Ask it otherwise" in screen_text(chat.app))
    await chat.press("!", "enter")
    await until(chat.pilot, lambda: chat.texts == ["Hi!", "Second"])
    assert chat.path[0].n_siblings == 2


async def test_going_on_with_what_was_cut_off(chat: Chat, models: ScriptedModels) -> None:
    models.say(crash("Once upon"))
    await chat.ask("Tell a tale")
    assert chat.path[-1].state == "interrupted" and "interrupted" in screen_text(chat.app)
    models.backends["scripted"].closed = True
    models.say(" a time.")
    await chat.press("ctrl+l")
    await until(chat.pilot, lambda: chat.texts[-1] == "Once upon a time.")
    assert screen_text(chat.app).count("Once upon") == 1


async def test_a_crash_while_nothing_is_asked_is_a_notice(chat: Chat, models: ScriptedModels) -> None:
    await chat.ask("Hi")
    models.backends["scripted"].closed = True
    await until(chat.pilot, lambda: "Ctrl+R loads it again" in chat.notice)
    assert chat.texts == ["Hi", "Hello!"]


async def test_a_question_that_is_too_long_goes_back(chat: Chat, models: ScriptedModels) -> None:
    models.say("Yes", n_ctx=64)
    question = "x" * 70
    await chat.write(question)
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.composer.text == question)
    assert chat.texts == [] and chat.shown.n_messages == 0


async def test_thinking_goes_round(chat: Chat) -> None:
    for expected in (True, False, None):
        await chat.press("ctrl+t")
        await until(chat.pilot, lambda expected=expected: chat.shown.options.get("thinking") is expected)


async def test_a_new_conversation_and_back(chat: Chat) -> None:
    await chat.ask("One")
    first = chat.shown.id
    await chat.press("ctrl+n")
    await until(chat.pilot, lambda: chat.shown.id != first)
    await chat.ask("Two")
    second = chat.shown.id
    await chat.press("ctrl+pagedown")
    await until(chat.pilot, lambda: chat.shown.id == first)
    assert "One" in screen_text(chat.app)
    await chat.press("alt+1")
    await until(chat.pilot, lambda: chat.shown.id == second)
    await chat.press("ctrl+pagedown", "ctrl+pageup")
    await until(chat.pilot, lambda: chat.shown.id in (first, second))


async def test_there_is_only_one_empty_conversation(chat: Chat) -> None:
    first = chat.shown.id
    await chat.press("ctrl+n", "ctrl+n")
    await chat.pilot.pause(0.1)
    assert chat.shown.id == first and len(chat.store.conversations()) == 1


async def test_another_conversation_streams_on_and_is_marked(chat: Chat, models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    await chat.write("Sing")
    await chat.press("enter")
    await until(chat.pilot, lambda: len(chat.path) == 2 and chat.path[1].text)
    singing = chat.shown.id
    await chat.press("ctrl+n")
    await until(chat.pilot, lambda: chat.shown.id != singing)
    await until(chat.pilot, lambda: "▸ Sing" in screen_text(chat.app))
    n_chars = len(chat.store.path(singing)[1].text)
    await until(chat.pilot, lambda: len(chat.store.path(singing)[1].text) > n_chars)
    await chat.press("alt+2")
    await until(chat.pilot, lambda: chat.shown.id == singing)
    await until(chat.pilot, lambda: "la la" in screen_text(chat.app))
    await chat.press("escape")
    await chat.idle()


async def test_what_ended_unseen_is_marked(chat: Chat, models: ScriptedModels) -> None:
    models.say(Script("la ", delay_s=0.3))
    await chat.write("Sing")
    await chat.press("enter")
    await until(chat.pilot, lambda: len(chat.path) == 2)
    singing = chat.shown.id
    await chat.press("ctrl+n")
    await until(chat.pilot, lambda: chat.shown.id != singing)
    await until(chat.pilot, lambda: "● Sing" in screen_text(chat.app))
    await chat.press("alt+1")
    await until(chat.pilot, lambda: "● Sing" not in screen_text(chat.app))


async def test_drafts_come_back(chat: Chat) -> None:
    await chat.ask("One")
    first = chat.shown.id
    await chat.write("half a thought")
    await chat.press("ctrl+n")
    await until(chat.pilot, lambda: chat.shown.id != first)
    assert chat.composer.text == ""
    await chat.press("alt+2")
    await until(chat.pilot, lambda: chat.shown.id == first)
    assert chat.composer.text == "half a thought"


async def test_drafts_outlast_the_app(make_app: Callable[[], LocalLLM]) -> None:
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.write("half a thought")
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        chat = await Chat.opened(app, pilot)
        assert chat.composer.text == "half a thought"


async def test_the_sidebar_hides_where_it_is_narrow(app: LocalLLM) -> None:
    async with app.run_test(size=NARROW) as pilot:
        chat = await Chat.opened(app, pilot)
        sidebar = chat.screen.query_one(ConversationList)
        assert not sidebar.display
        await chat.press("ctrl+b")
        assert sidebar.display and sidebar.has_focus
        await chat.press("ctrl+b")
        assert not sidebar.display and chat.composer.input.has_focus


async def test_renaming(chat: Chat) -> None:
    await chat.ask("One")
    await chat.press("alt+r")
    await until(chat.pilot, lambda: "Rename the chat" in screen_text(chat.app))
    await chat.press("!", "enter")
    await until(chat.pilot, lambda: chat.shown.title == "One!")
    await until(chat.pilot, lambda: "One!" in screen_text(chat.app))


async def test_pinning_and_archiving(chat: Chat) -> None:
    await chat.ask("One")
    await chat.press("alt+p")
    await until(chat.pilot, lambda: "Pinned" in screen_text(chat.app))
    await chat.press("alt+p")
    await until(chat.pilot, lambda: "Pinned" not in screen_text(chat.app))
    await chat.press("alt+a")
    await until(chat.pilot, lambda: chat.shown.is_archived)


async def test_deleting_and_bringing_back(chat: Chat) -> None:
    await chat.ask("One")
    first = chat.shown.id
    await chat.press("alt+d")
    await until(chat.pilot, lambda: chat.shown.id != first)
    assert all(one.id != first for one in chat.store.conversations())
    await chat.press("alt+u")
    await until(chat.pilot, lambda: chat.shown.id == first)
    assert "One" in screen_text(chat.app)


async def test_deleting_by_the_sidebar(chat: Chat) -> None:
    await chat.ask("One")
    first = chat.shown.id
    chat.screen.query_one(ConversationList).focus()
    await chat.press("d")
    await until(chat.pilot, lambda: chat.shown.id != first)
    chat.screen.query_one(ConversationList).focus()
    await chat.press("u")
    await until(chat.pilot, lambda: chat.shown.id == first)


async def test_exporting_and_importing(chat: Chat, tmp_path: Path) -> None:
    await chat.ask("One")
    first = chat.shown.id
    file = tmp_path / "one.json"
    await chat.press("alt+x")
    await until(chat.pilot, lambda: "Export to" in screen_text(chat.app))
    await chat.press("ctrl+u", *str(file), "enter")
    await until(chat.pilot, file.exists)
    await chat.press("alt+i")
    await until(chat.pilot, lambda: "Import from" in screen_text(chat.app))
    await chat.press(*str(file), "enter")
    await until(chat.pilot, lambda: chat.shown.id != first)
    assert chat.texts == ["One", "Hello!"]
    await chat.press("alt+x")
    await until(chat.pilot, lambda: "Export to" in screen_text(chat.app))
    await chat.press("ctrl+u", *str(file), "enter")
    await until(chat.pilot, lambda: any("exist" in notice.message for notice in chat.app._notifications))


async def test_the_search_goes_to_a_message_also_on_another_branch(chat: Chat, models: ScriptedModels) -> None:
    models.say("A heron stands still.", "Nothing.")
    await chat.ask("Birds")
    first = chat.shown.id
    await chat.press("ctrl+r")
    await until(chat.pilot, lambda: chat.texts == ["Birds", "Nothing."])
    await chat.idle()
    await chat.press("ctrl+n")
    await until(chat.pilot, lambda: chat.shown.id != first)
    await chat.press("ctrl+f")
    await until(chat.pilot, lambda: isinstance(chat.app.screen, SearchScreen))
    await chat.press(*"hero")
    await until(chat.pilot, lambda: "A heron" in screen_text(chat.app))
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.shown.id == first)
    assert chat.texts == ["Birds", "A heron stands still."]


async def test_a_search_without_a_hit_says_so(chat: Chat) -> None:
    await chat.press("ctrl+f", *"zzz")
    await until(chat.pilot, lambda: "Nothing has all of these words." in screen_text(chat.app))
    await chat.press("enter", "escape")
    assert not isinstance(chat.app.screen, SearchScreen)


async def test_choosing_a_model(chat: Chat, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = [
        ModelChoice("@127.0.0.1:8080/big", "Running in localllm serve"),
        ModelChoice("scripted", "On this disk", 98_000_000),
        ModelChoice("other", "On this disk", 2_000_000_000, "Q4_K_M"),
    ]
    monkeypatch.setattr("tui.screens.model_picker.model_choices", lambda: choices)
    await chat.press("ctrl+o")
    await until(chat.pilot, lambda: "2.0 GB · Q4_K_M" in screen_text(chat.app))
    assert "✓ scripted" in screen_text(chat.app)
    await chat.press(*"oth", "enter")
    await until(chat.pilot, lambda: chat.shown.model == "other")
    await chat.ask("Hi")
    assert chat.path[-1].model == "other" and models.loads == ["other"]


async def test_settings_of_the_chat(chat: Chat, models: ScriptedModels) -> None:
    await chat.press("ctrl+e")
    await until(chat.pilot, lambda: isinstance(chat.app.screen, ChatSettings))
    await chat.press(*"Rhyme")
    chat.app.screen.query_one("#max_tokens").focus()
    await chat.press("x")
    await until(chat.pilot, lambda: "a whole number, or none" in screen_text(chat.app))
    await chat.press("enter")
    assert isinstance(chat.app.screen, ChatSettings), "what is not allowed is not taken"
    await chat.press("backspace", "3", "enter")
    await until(chat.pilot, lambda: chat.shown.options == {"max_tokens": 3})
    assert chat.shown.system == "Rhyme"
    await chat.ask("Hi")
    assert chat.path[-1].text == "Hel" and chat.path[-1].state == "length"
    assert models.backends["scripted"].calls[0].prompt_text.startswith("<system>Rhyme<user>Hi")


async def test_leaving_the_settings_changes_nothing(chat: Chat) -> None:
    await chat.press("ctrl+e", *"Rhyme", "escape")
    await chat.pilot.pause()
    assert chat.shown.system is None


async def test_prompts_are_saved_and_inserted_and_deleted(chat: Chat) -> None:
    await chat.write("Be brief")
    await chat.press("alt+s")
    await until(chat.pilot, lambda: "Save the prompt as" in screen_text(chat.app))
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.store.prompts())
    await chat.press("ctrl+n")
    chat.composer.text = ""
    await chat.press("alt+l")
    await until(chat.pilot, lambda: "Saved prompts" in screen_text(chat.app))
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.composer.text == "Be brief")
    await chat.press("alt+l", "f8")
    await until(chat.pilot, lambda: not chat.store.prompts())


async def test_another_screen_may_begin_a_conversation(chat: Chat, models: ScriptedModels) -> None:
    await chat.press("f3")
    chat.app.screen.post_message(ChatWith("other"))
    await until(chat.pilot, lambda: chat.app.current_mode == "chat" and chat.shown.model == "other")
    await chat.ask("Hi")
    assert chat.path[-1].model == "other" and models.loads == ["other"]


async def test_a_damaged_file_is_said(make_app: Callable[[], LocalLLM], home: Path) -> None:
    (home / "data").mkdir(parents=True, exist_ok=True)
    (home / "data" / "conversations.db").write_bytes(b"not a database" * 400)
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        chat = await Chat.opened(app, pilot)
        assert any("conversations.db" in notice.message for notice in app._notifications)
        await chat.ask("Hi")
        assert chat.texts == ["Hi", "Hello!"]


async def test_what_failed_to_load_unknown_is_no_traceback(chat: Chat, models: ScriptedModels) -> None:
    models.errors["scripted"] = ModelNotFound("No model is called [red]x[/red].", hint="\x1b[2J")
    await chat.ask("Hi")
    assert "[red]x[/red]" in screen_text(chat.app) and "\x1b" not in screen_text(chat.app)


async def test_an_answer_is_interrupted_by_quitting(make_app: Callable[[], LocalLLM], models: ScriptedModels) -> None:
    models.say(Script("la ", endless=True))
    app = make_app()
    async with app.run_test(size=WIDE) as pilot:
        chat = await Chat.opened(app, pilot)
        await chat.write("Sing")
        await chat.press("enter")
        await until(pilot, lambda: len(chat.path) == 2 and chat.path[1].text)
        singing = chat.shown.id
    store = ConversationStore.open()
    assert store.path(singing)[1].state == "interrupted" and store.path(singing)[1].text.startswith("la")
    store.close()


async def test_what_is_typed_before_the_conversations_are_there_is_kept(
    app: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_open, real_open = threading.Event(), ConversationStore.open

    def slow() -> ConversationStore:
        assert may_open.wait(10)
        return real_open()

    monkeypatch.setattr(ConversationStore, "open", slow)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("H", "i", "enter", "m", "o", "r", "e")
        may_open.set()
        chat = await Chat.opened(app, pilot)
        await until(pilot, lambda: chat.texts == ["Hi", "Hello!"])
        assert chat.composer.text == "more"


async def test_a_command_after_a_slash(chat: Chat, tmp_path: Path) -> None:
    await chat.press(*"/thin")
    await until(chat.pilot, lambda: "/thinking" in screen_text(chat.app))
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.shown.options.get("thinking") is True)
    file = tmp_path / "note.txt"
    file.write_text("The heron stands still.")
    await chat.press(*"/attach", "space", *str(file), "enter")
    await until(chat.pilot, lambda: "note.txt" in screen_text(chat.app))
    await chat.ask("What stands?")
    assert "The heron stands still." in chat.texts[0] and chat.texts[0].endswith("What stands?")


async def test_a_saved_prompt_after_a_slash(chat: Chat) -> None:
    chat.store.save_prompt("short", "Be brief.")
    await chat.screen.offer_commands()
    await chat.press(*"/short")
    await until(chat.pilot, lambda: "Saved prompt" in screen_text(chat.app))
    await chat.press("enter")
    await until(chat.pilot, lambda: chat.composer.text == "Be brief.")


async def test_up_asks_the_last_question_otherwise(chat: Chat, models: ScriptedModels) -> None:
    models.say("First", "Second")
    await chat.ask("Hi")
    await chat.press("up")
    await until(chat.pilot, lambda: "Ask it otherwise" in screen_text(chat.app))
    await chat.press("!", "enter")
    await until(chat.pilot, lambda: chat.texts == ["Hi!", "Second"])
