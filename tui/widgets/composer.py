"""Where a question is written: the text, the files that go with it, and what helps to write it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import TextArea

from localllm.errors import LocalLLMError
from tui.chat.attachments import Attachment, named_files, pasted_paths, read_attachment, with_attachments
from tui.external_editor import edited, editor_command
from tui.widgets.attachment_chips import AttachmentChip, AttachmentChips
from tui.widgets.prompt_input import PromptInput
from tui.widgets.suggestion_list import Suggestion, SuggestionList, matching

_N_SENT = 200
_N_FILES = 40
_N_PASTED = 50_000
"""Characters of a paste that is still text of the question; a longer one goes with it, as a file does."""


class Composer(Vertical):
    """A field that sends its text with Enter and can be written in at any time.

    "/" at the beginning offers commands and saved prompts, "@" files; what is chosen of commands is `SlashChosen`.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+g", "edit_outside", "Editor", id="composer.editor", tooltip="Write in $VISUAL or $EDITOR"),
    ]
    DEFAULT_CSS = """
    Composer {
        height: auto;
        max-height: 20;
        padding: 0 1;
        background: $surface;
        border-left: outer $foreground 20%;

        &:focus-within {
            border-left: outer $primary;
        }
    }
    """

    class Submitted(Message):
        """A question was sent; the field is empty again."""

        def __init__(self, text: str, typed: str, attachments: tuple[Attachment, ...]) -> None:
            super().__init__()
            self.text = text
            """What the model gets: the files, then what was typed."""
            self.typed = typed
            self.attachments = attachments

    class EditLastRequested(Message):
        """Up was pressed where nothing is written: the last question shall be asked in other words."""

    class SlashChosen(Message):
        """A command was chosen, with what was written behind it."""

        def __init__(self, name: str, rest: str) -> None:
            super().__init__()
            self.name = name
            """With its slash."""
            self.rest = rest

    def __init__(self, *, placeholder: str = "Write a message", id: str | None = None) -> None:
        super().__init__(id=id)
        self._placeholder = placeholder
        self._offers: tuple[Suggestion, ...] = ()
        self._sent: list[str] = []
        self._recalled: int | None = None
        self._unsent = ""
        self._dismissed = ""

    def compose(self) -> ComposeResult:
        yield SuggestionList()
        yield AttachmentChips()
        yield PromptInput(placeholder=self._placeholder)

    @property
    def input(self) -> PromptInput:
        """The field itself."""
        return self.query_one(PromptInput)

    @property
    def text(self) -> str:
        """What is written."""
        return self.input.text

    @text.setter
    def text(self, text: str) -> None:
        self.input.load_text(text)
        self.input.move_cursor(self.input.document.end)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The files that go with the question."""
        return self.query_one(AttachmentChips).attachments

    @attachments.setter
    def attachments(self, attachments: tuple[Attachment, ...]) -> None:
        self.query_one(AttachmentChips).attachments = attachments

    def focus(self, scroll_visible: bool = True) -> Composer:
        """Put the cursor into the field."""
        self.input.focus(scroll_visible)
        return self

    def insert(self, text: str) -> None:
        """Insert a text where the cursor is."""
        self.input.insert_here(text)

    def set_offers(self, offers: Sequence[Suggestion]) -> None:
        """Say which commands and saved prompts there are."""
        self._offers = tuple(offers)

    def set_sent(self, texts: Sequence[str]) -> None:
        """Say what was sent before, the latest at the end."""
        self._sent = list(texts)[-_N_SENT:]
        self._recalled = None

    def attach(self, attachment: Attachment) -> None:
        """Let a file go with the question; one that goes already, once."""
        if attachment not in self.attachments:
            self.attachments = (*self.attachments, attachment)

    @work(group="attach")
    async def attach_files(self, paths: Sequence[Path]) -> None:
        """Read files and let them go with the question; what is wrong with one is a notice."""
        await self._attach_files(paths)

    async def _attach_files(self, paths: Sequence[Path]) -> None:
        for path in paths:
            try:
                self.attach(await asyncio.to_thread(read_attachment, path))
            except LocalLLMError as error:
                self._complain(error)

    @on(PromptInput.Entered)
    def _entered(self, event: PromptInput.Entered) -> None:
        event.stop()
        suggestions = self.query_one(SuggestionList)
        if suggestions.current is not None:
            self._take(suggestions.current)
        else:
            self._send()

    @work(exclusive=True, group="send")
    async def _send(self) -> None:
        typed = self.text
        if not typed.strip() and not self.attachments:
            return
        if "@" in typed:
            await self._attach_files(await asyncio.to_thread(named_files, typed, Path.cwd()))
        if self.text != typed:
            return
        attachments = self.attachments
        if typed.strip() and typed not in self._sent[-1:]:
            self._sent = [*self._sent, typed][-_N_SENT:]
        self._recalled = None
        self.text, self.attachments = "", ()
        self.post_message(self.Submitted(with_attachments(typed, list(attachments)), typed, attachments))

    @on(PromptInput.Pressed)
    def _pressed(self, event: PromptInput.Pressed) -> None:
        event.stop()
        suggestions = self.query_one(SuggestionList)
        match event.key:
            case "up" | "down" if suggestions.is_shown:
                suggestions.move(1 if event.key == "down" else -1)
            case "tab" if suggestions.current is not None:
                self._take(suggestions.current)
            case "escape":
                self._dismissed = self.text
                self._offer([])
            case "up":
                self.post_message(self.EditLastRequested())
            case "backspace":
                self.attachments = self.attachments[:-1]

    @on(PromptInput.RecallWanted)
    def _recall(self, event: PromptInput.RecallWanted) -> None:
        event.stop()
        at = len(self._sent) if self._recalled is None else self._recalled
        if self._recalled is None:
            self._unsent = self.text
        at = max(0, min(at + event.by, len(self._sent)))
        self._recalled = at if at < len(self._sent) else None
        self.text = self._unsent if self._recalled is None else self._sent[at]

    @on(PromptInput.Pasted)
    def _pasted(self, event: PromptInput.Pasted) -> None:
        event.stop()
        if len(event.text) > _N_PASTED:
            self.attach(Attachment("pasted text", event.text))
        else:
            self._insert_pasted(event.text)

    @work(group="paste")
    async def _insert_pasted(self, text: str) -> None:
        paths = await asyncio.to_thread(pasted_paths, text) if len(text) < _N_PASTED and "/" in text[:10] else []
        if paths:
            await self._attach_files(paths)
        else:
            self.input.insert_here(text)

    @on(AttachmentChip.Removed)
    def _remove(self, event: AttachmentChip.Removed) -> None:
        event.stop()
        self.attachments = tuple(a for a in self.attachments if a != event.attachment)
        self.focus()

    @on(TextArea.Changed)
    def _typed(self) -> None:
        text = self.text
        if text == self._dismissed:
            return
        self._dismissed = ""
        if text.startswith("/") and "\n" not in text:
            name = text.split(" ", 1)[0]
            is_named = " " in text
            self._offer([] if is_named else matching(self._offers, name))
        elif (word := self._file_word()) is not None:
            self._offer_files(word)
        else:
            self._offer([])

    def _file_word(self) -> str | None:
        row, column = self.input.cursor_location
        words = self.input.document[row][:column].split(" ")
        return words[-1][1:] if words[-1].startswith("@") else None

    @work(exclusive=True, group="files")
    async def _offer_files(self, word: str) -> None:
        files = await asyncio.to_thread(_files, word)
        if self._file_word() == word:
            self._offer(files)

    def _offer(self, suggestions: list[Suggestion]) -> None:
        self.query_one(SuggestionList).offer(suggestions)
        self.input.is_choosing = bool(suggestions)

    @on(SuggestionList.Taken)
    def _taken(self, event: SuggestionList.Taken) -> None:
        event.stop()
        self._take(event.suggestion)
        self.focus()

    def _take(self, suggestion: Suggestion) -> None:
        match suggestion.kind:
            case "command":
                rest = self.text.partition(" ")[2]
                self.text = ""
                self.post_message(self.SlashChosen(suggestion.name, rest))
            case "prompt":
                self.text = suggestion.text
            case "file":
                self._take_file(suggestion.name)
        self._offer([])

    def _take_file(self, name: str) -> None:
        row, column = self.input.cursor_location
        start = column - len(self._file_word() or "") - 1
        if name.endswith("/"):
            self.input.replace(f"@{name}", (row, start), (row, column))
            return
        self.input.replace("", (row, start), (row, column))
        self.attach_files([Path(name).expanduser()])

    def action_edit_outside(self) -> None:
        """Go on writing in the person's own editor."""
        try:
            command = editor_command()
            with self.app.suspend():
                text = edited(self.text, command)
        except LocalLLMError as error:
            self._complain(error)
        except SuspendNotSupported:
            self.notify("An editor needs a terminal of its own. Write here.", severity="warning", markup=False)
        else:
            self.input.replace_all(text)
        self.app.refresh()
        self.focus()

    def _complain(self, error: LocalLLMError) -> None:
        text = f"{error.message} {error.hint}" if error.hint else error.message
        self.notify(text, severity="error", markup=False)


def _files(word: str) -> list[Suggestion]:
    """Return the files and folders whose paths begin with `word`."""
    typed = Path(word).expanduser()
    folder, start = (typed, "") if word.endswith("/") or not word else (typed.parent, typed.name)
    try:
        names = sorted(path for path in folder.iterdir() if path.name.lower().startswith(start.lower()))
        shown = [path for path in names if start.startswith(".") or not path.name.startswith(".")][:_N_FILES]
        return [Suggestion("file", f"{path}/" if path.is_dir() else str(path)) for path in shown]
    except (OSError, ValueError):
        return []
