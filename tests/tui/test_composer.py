"""Writing a question: keys, files, commands, history and the person's own editor."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from textual.widgets import Button

from tests.tui.driving import screen_text, until
from tui.chat.attachments import N_BYTES_MOST, Attachment, pasted_paths, with_attachments
from tui.widgets.attachment_chips import AttachmentChip
from tui.widgets.composer import Composer
from tui.widgets.suggestion_list import Suggestion

OFFERS = (
    Suggestion("command", "/export", "Write this conversation to a file"),
    Suggestion("command", "/model", "Choose another model"),
    Suggestion("prompt", "/review", "", text="Review this code:\n"),
)


class ComposerApp(App[None]):
    """A composer below a button; what it says is in `said`."""

    def __init__(self) -> None:
        super().__init__()
        self.animation_level = "none"
        self.said: list[Message] = []

    def compose(self) -> ComposeResult:
        yield Button("Elsewhere")
        yield Composer()

    def on_mount(self) -> None:
        self.composer.set_offers(OFFERS)
        self.composer.focus()

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)

    @property
    def sent(self) -> list[str]:
        return [message.text for message in self.said if isinstance(message, Composer.Submitted)]

    def on_composer_submitted(self, message: Composer.Submitted) -> None:
        self.said.append(message)

    def on_composer_edit_last_requested(self, message: Composer.EditLastRequested) -> None:
        self.said.append(message)

    def on_composer_slash_chosen(self, message: Composer.SlashChosen) -> None:
        self.said.append(message)


def shown(app: ComposerApp) -> str:
    return screen_text(app)  # type: ignore[arg-type]


async def paste(pilot: Pilot[None], text: str) -> None:
    pilot.app.focused.post_message(events.Paste(text))  # type: ignore[union-attr]
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def enter(pilot: Pilot[None]) -> None:
    await pilot.press("enter")
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


async def test_enter_sends_and_empties_the_field() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*"Hi")
        await enter(pilot)
        assert (app.sent, app.composer.text) == (["Hi"], "")


async def test_nothing_is_not_sent() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("space")
        await enter(pilot)
        assert app.sent == []


@pytest.mark.parametrize("key", ["shift+enter", "ctrl+j", "alt+enter"])
async def test_other_enters_break_the_line(key: str) -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("a", key, "b")
        assert app.composer.text == "a\nb"
        assert app.composer.input.size.height == 2


async def test_the_field_grows_to_ten_lines_and_no_further() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        assert app.composer.size.height == 1
        app.composer.text = "line\n" * 30
        await pilot.pause()
        assert app.composer.input.size.height == 10


async def test_up_in_an_empty_field_asks_for_the_last_question() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("up")
        assert [type(message) for message in app.said] == [Composer.EditLastRequested]
        await pilot.press("a", "up")
        assert len(app.said) == 1


@pytest.mark.parametrize(("before", "after"), [("alt+up", "alt+down"), ("ctrl+up", "ctrl+down")])
async def test_what_was_sent_comes_back_and_what_was_not_is_kept(before: str, after: str) -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.composer.set_sent(["one", "two"])
        await pilot.press(*"new", before)
        assert app.composer.text == "two"
        await pilot.press(before, before)
        assert app.composer.text == "one"
        await pilot.press(after, after)
        assert app.composer.text == "new"


async def test_slash_offers_commands_filtered_as_one_types() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("/")
        assert all(offer.name in shown(app) for offer in OFFERS)
        await pilot.press(*"mo")
        assert "/model" in shown(app) and "/export" not in shown(app)
        await enter(pilot)
        chosen = app.said[-1]
        assert isinstance(chosen, Composer.SlashChosen) and chosen.name == "/model"
        assert (app.sent, app.composer.text) == ([], "")


async def test_a_saved_prompt_is_written_into_the_field() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("/", "down", "down", "tab")
        assert app.composer.text == "Review this code:\n"


async def test_escape_hides_what_is_offered_and_a_slash_can_be_sent() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("/", "escape")
        assert "/model" not in shown(app)
        await enter(pilot)
        assert app.sent == ["/"]


async def test_a_pasted_path_attaches_the_file_and_backspace_takes_it_away(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("one\ntwo\n")
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await paste(pilot, str(tmp_path / "my notes.txt").replace(" ", "\\ ") + "\n")
        assert "my notes.txt · 2 lines" in shown(app)
        await pilot.press("backspace")
        assert app.composer.attachments == ()


async def test_a_chip_is_removed_by_key(tmp_path: Path) -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.composer.attach(Attachment("a.txt", "a"))
        app.composer.attach(Attachment("b.txt", "b"))
        await pilot.pause()
        await pilot.press("shift+tab", "delete")
        await pilot.pause()
        assert [attachment.name for attachment in app.composer.attachments] == ["a.txt"]
        assert len(app.query(AttachmentChip)) == 1


async def test_an_attached_file_is_sent_above_the_question(tmp_path: Path) -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.composer.attach(Attachment("code.md", "```\nx\n```\n"))
        await pilot.press(*"Why?")
        await enter(pilot)
        assert app.sent == ["code.md:\n````\n```\nx\n```\n````\n\nWhy?"]
        assert app.composer.attachments == ()


async def test_at_offers_files_and_the_chosen_one_is_attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alpha.txt").write_text("A")
    (tmp_path / "beta.txt").write_text("B")
    monkeypatch.chdir(tmp_path)
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(*"See @al")
        await until(pilot, lambda: "alpha.txt" in shown(app))
        assert "beta.txt" not in shown(app)
        await pilot.press("tab")
        await until(pilot, lambda: app.composer.attachments)
        assert (app.composer.text, app.composer.attachments[0].text) == ("See ", "A")


async def test_a_file_named_with_at_goes_along_when_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alpha.txt").write_text("A")
    monkeypatch.chdir(tmp_path)
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.composer.text = "What is @alpha.txt about, me@home.example?"
        await enter(pilot)
        assert app.sent == ["alpha.txt:\n```\nA\n```\n\nWhat is @alpha.txt about, me@home.example?"]


@pytest.mark.parametrize(
    ("data", "complaint"), [(b"\x00\x01", "not a text file"), (b"a" * (N_BYTES_MOST + 1), "at most 1 MiB")]
)
async def test_what_is_no_text_or_too_large_is_refused_with_a_notice(
    tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(data)
    app = ComposerApp()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await paste(pilot, str(path))
        assert app.composer.attachments == ()
        assert any(complaint in notice.message for notice in app._notifications)


async def test_thousands_of_pasted_lines_are_a_file_and_keys_in_them_are_harmless() -> None:
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await paste(pilot, "some words in a line\n" * 5000)
        assert "pasted text · 5,000 lines" in shown(app)
        await paste(pilot, "a\x1b[31mb\r\nc")
        assert app.composer.text == "a[31mb\nc"


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a script that does as $VISUAL does."""

    def make(script: str) -> None:
        path = tmp_path / "editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("VISUAL", str(path))

    return make


async def test_ctrl_g_writes_on_in_the_editor(editor: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    editor('printf " more" >> "$1"')
    app = ComposerApp()
    async with app.run_test(size=(80, 24)) as pilot:
        _suspendable(app, monkeypatch)
        await pilot.press(*"Some", "ctrl+g")
        assert app.composer.text == "Some more"


@pytest.mark.parametrize("script", ["exit 3", 'rm "$1"', 'rm "$1"; exec false'])
async def test_an_editor_that_fails_is_a_notice_and_loses_nothing(
    editor: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    editor(script)
    app = ComposerApp()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        _suspendable(app, monkeypatch)
        await pilot.press(*"Some", "ctrl+g")
        assert app.composer.text == "Some"
        assert len(app._notifications) == 1


async def test_an_editor_that_is_not_there_and_a_terminal_that_cannot_wait_are_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VISUAL", "/nowhere/at-all")
    app = ComposerApp()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press(*"Some", "ctrl+g")
        _suspendable(app, monkeypatch)
        await pilot.press("ctrl+g")
        assert app.composer.text == "Some"
        said = [notice.message for notice in app._notifications]
        assert said == [
            "An editor needs a terminal of its own. Write here.",
            f"/nowhere/at-all: {os.strerror(2)}. Set $VISUAL or $EDITOR to an editor.",
        ]


def _suspendable(app: ComposerApp, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = app._driver
    assert driver is not None
    monkeypatch.setattr(type(driver), "can_suspend", property(lambda self: True))


def test_a_sentence_with_a_slash_is_no_path(tmp_path: Path) -> None:
    assert pasted_paths("/etc/shadow-that-is-not-there") == []
    assert pasted_paths("and/or") == []
    assert pasted_paths("'unclosed") == []
    (tmp_path / "a b.txt").write_text("x")
    quoted = [f"'{tmp_path}/a b.txt'", f"file://{tmp_path}/a%20b.txt", f"{tmp_path}/a b.txt"]
    assert [pasted_paths(text) for text in quoted] == [[tmp_path / "a b.txt"]] * 3


def test_a_fence_within_a_file_does_not_end_the_files_own() -> None:
    assert with_attachments("", [Attachment("a", "````\nx")]) == "a:\n`````\n````\nx\n`````"
