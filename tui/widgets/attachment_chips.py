"""The files that go with a question, each with a way to take it away."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static

from localllm.printable import marked
from tui.chat.attachments import Attachment


class AttachmentChip(Static, can_focus=True):
    """One file."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete,backspace,enter", "remove", "Take away", id="composer.remove-file")
    ]
    DEFAULT_CSS = """
    AttachmentChip {
        width: auto;
        height: 1;
        margin: 0 1 0 0;
        padding: 0 1;
        background: $panel;

        &:focus {
            background: $primary;
            color: $background;
            text-style: bold;
        }
    }
    """

    class Removed(Message):
        """It shall not go with the question."""

        def __init__(self, attachment: Attachment) -> None:
            super().__init__()
            self.attachment = attachment

    def __init__(self, attachment: Attachment) -> None:
        super().__init__(Content(f"{marked(attachment.label)} ×"))
        self._attachment = attachment

    def on_click(self) -> None:
        self.action_remove()

    def action_remove(self) -> None:
        self.post_message(self.Removed(self._attachment))


class AttachmentChips(HorizontalScroll, can_focus=False):
    """All files of one question, in a line."""

    DEFAULT_CSS = """
    AttachmentChips {
        display: none;
        height: 1;
        scrollbar-size-horizontal: 0;

        &.-shown {
            display: block;
        }
    }
    """

    attachments: reactive[tuple[Attachment, ...]] = reactive((), recompose=True)

    def compose(self) -> ComposeResult:
        for attachment in self.attachments:
            yield AttachmentChip(attachment)

    def watch_attachments(self) -> None:
        self.set_class(bool(self.attachments), "-shown")
