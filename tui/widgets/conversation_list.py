"""The sidebar: all conversations, the pinned and the latest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.chat.groups import grouped

if TYPE_CHECKING:
    from localllm.conversations import Conversation

Wish = Literal["rename", "pin", "archive", "delete", "undo_delete", "export", "import"]

UNTITLED = "New chat"
_STREAMS, _UNREAD = "▸ ", "● "


class ConversationList(OptionList):
    """The conversations under headings. One that streams is marked with an arrow, one with unread words with a dot."""

    DEFAULT_CSS = """
    ConversationList {
        width: 28;
        height: 1fr;
        dock: left;
        border: none;
        border-right: vkey $panel;
        padding: 0 1;
        background: $surface;
        &:focus { border: none; border-right: vkey $primary; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "wish('rename')", "Rename", id="chats.rename"),
        Binding("p", "wish('pin')", "Pin", id="chats.pin", tooltip="Keep it above all others, or let it go"),
        Binding("a", "wish('archive')", "Archive", id="chats.archive", tooltip="Put it away, or bring it back"),
        Binding("d,delete", "wish('delete')", "Delete", id="chats.delete"),
        Binding("u", "wish('undo_delete')", "Undo", id="chats.undo_delete", tooltip="Bring back what was deleted"),
        Binding("x", "wish('export')", "Export", id="chats.export"),
        Binding("i", "wish('import')", "Import", id="chats.import"),
    ]

    class Chosen(Message):
        """A conversation is to be shown."""

        def __init__(self, conversation_id: int) -> None:
            super().__init__()
            self.conversation_id = conversation_id

    class Wished(Message):
        """Something is to be done with the highlighted conversation."""

        def __init__(self, wish: Wish, conversation_id: int | None) -> None:
            super().__init__()
            self.wish = wish
            self.conversation_id = conversation_id

    def __init__(self) -> None:
        super().__init__(id="conversations", markup=False)
        self._shown: list[tuple[str, str, int | None]] = []

    def show(
        self,
        conversations: Sequence[Conversation],
        current_id: int | None,
        *,
        streaming: Collection[int] = (),
        unread: Collection[int] = (),
    ) -> None:
        """Show these; the highlight stays, or goes to the current one."""
        rows: list[tuple[str, str, int | None]] = []
        for name, found in grouped(conversations, datetime.now()):
            rows.append(("heading", name, None))
            for conversation in found:
                mark = _STREAMS if conversation.id in streaming else _UNREAD if conversation.id in unread else ""
                style = "current" if conversation.id == current_id else ""
                rows.append((style, mark + (one_line(conversation.title) or UNTITLED), conversation.id))
        if rows == self._shown:
            return
        kept_id = self.highlighted_id if self.has_focus else current_id
        self._shown = rows
        self.clear_options()
        self.add_options([_option(*row) for row in rows])
        self._highlight(kept_id if kept_id is not None else current_id)

    @property
    def highlighted_id(self) -> int | None:
        """The conversation that the keys are about."""
        return None if self.highlighted is None else self._shown[self.highlighted][2]

    @property
    def ids(self) -> list[int]:
        """The conversations, in the order in which they are shown."""
        return [id_ for _, _, id_ in self._shown if id_ is not None]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if (chosen := self._shown[event.option_index][2]) is not None:
            self.post_message(self.Chosen(chosen))

    def action_wish(self, wish: Wish) -> None:
        """Ask the screen for something about the highlighted conversation."""
        self.post_message(self.Wished(wish, self.highlighted_id))

    def _highlight(self, conversation_id: int | None) -> None:
        place = next((i for i, row in enumerate(self._shown) if row[2] == conversation_id and row[2] is not None), None)
        self.highlighted = place


def one_line(text: str) -> str:
    """Return text without line breaks and control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _option(style: str, text: str, conversation_id: int | None) -> Option:
    if style == "heading":
        return Option(Content.styled(text, "dim bold"), disabled=True)
    return Option(Content.styled(text, "bold" if style == "current" else ""), id=str(conversation_id))
