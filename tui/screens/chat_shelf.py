"""What is done with whole conversations: name, pin, put away, delete and bring back, export, import."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.errors import RequestError
from tui.screens.ask_text import AskText
from tui.widgets.conversation_list import UNTITLED, Wish, one_line

if TYPE_CHECKING:
    from localllm.conversations import Conversation, ConversationStore
    from tui.screens.chat import ChatScreen

_NO_NAME = re.compile(r"[^\w.-]+")


class ChatShelf:
    """Does it, for the chat's screen, which shows the result. Its methods run in workers.

    Args:
        screen: asks the user, and shows what is to be shown.
        store: where conversations are kept.
    """

    def __init__(self, screen: ChatScreen, store: ConversationStore) -> None:
        self._screen = screen
        self._store = store
        self._deleted: list[int] = []

    async def do(self, wish: Wish, conversation_id: int | None) -> None:
        """Do what was asked for.

        Raises:
            LocalLLMError: it cannot be done.
        """
        if wish == "undo_delete":
            await self._bring_back()
        elif wish == "import":
            await self._import()
        elif conversation_id is not None:
            conversation = await asyncio.to_thread(self._store.conversation, conversation_id)
            await {
                "rename": self._rename,
                "pin": self._pin,
                "archive": self._archive,
                "delete": self._delete,
                "export": self._export,
            }[wish](conversation)
        await self._screen.refresh_list()

    async def _rename(self, conversation: Conversation) -> None:
        title = await self._screen.app.push_screen_wait(AskText("Rename the chat", conversation.title))
        if title is not None:
            await self._screen.change_conversation(conversation.id, title=title)

    async def _pin(self, conversation: Conversation) -> None:
        await self._screen.change_conversation(conversation.id, is_pinned=not conversation.is_pinned)

    async def _archive(self, conversation: Conversation) -> None:
        await self._screen.change_conversation(conversation.id, is_archived=not conversation.is_archived)
        self._screen.say(
            "Back among the others." if conversation.is_archived else "Archived. The search still finds it."
        )

    async def _delete(self, conversation: Conversation) -> None:
        await self._screen.leave_conversation(conversation.id)
        await asyncio.to_thread(self._store.delete, conversation.id)
        self._deleted.append(conversation.id)
        self._screen.say(f"Deleted “{one_line(conversation.title) or UNTITLED}”. Alt+U brings it back.")

    async def _bring_back(self) -> None:
        if not self._deleted:
            raise RequestError(
                "Nothing was deleted.", hint="Only what was deleted since the start can be brought back."
            )
        conversation_id = self._deleted.pop()
        await asyncio.to_thread(self._store.restore, conversation_id)
        await self._screen.show_conversation(conversation_id)

    async def _export(self, conversation: Conversation) -> None:
        from localllm.conversations.export import export_file

        note = "A name that ends in .json keeps all branches; .md is for reading."
        answer = await self._screen.app.push_screen_wait(AskText("Export to", f"{file_name(conversation)}.md", note))
        if answer is not None:
            path = Path(answer).expanduser()
            await asyncio.to_thread(export_file, self._store, conversation.id, path)
            self._screen.say(f"Exported to {path}.")

    async def _import(self) -> None:
        from localllm.conversations.importing import import_file

        note = "An export of this program (.json, .md), a list of messages, or ChatGPT's conversations.json."
        answer = await self._screen.app.push_screen_wait(AskText("Import from", "", note))
        if answer is None:
            return
        found = await asyncio.to_thread(import_file, self._store, Path(answer).expanduser())
        self._screen.say(f"Imported {len(found)} conversation{'' if len(found) == 1 else 's'}.")
        if found:
            await self._screen.show_conversation(found[0].id)


def file_name(conversation: Conversation) -> str:
    """Return a name for a file that a conversation is exported to, without an ending."""
    return _NO_NAME.sub("-", conversation.title).strip("-.")[:60] or f"chat-{conversation.id}"
