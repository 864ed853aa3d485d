"""The chat's dialogs, and what becomes of their answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from tui.chat.session import ChatSession, title_of
from tui.screens.ask_text import AskText
from tui.screens.chat_settings import ChatSettings
from tui.screens.edit_message import EditMessage
from tui.screens.model_picker import ModelPicker
from tui.screens.prompt_library import PromptLibrary
from tui.screens.search import SearchScreen

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore, Node
    from tui.screens.chat import ChatScreen


class ChatDialogs:
    """Asks, for the chat's screen. Its methods run in workers, and raise LocalLLMError.

    Args:
        screen: shows the dialogs.
        store: where conversations are kept.
    """

    def __init__(self, screen: ChatScreen, store: ConversationStore) -> None:
        self._screen = screen
        self._store = store

    async def search(self) -> None:
        """Find a message, and go there."""
        hit = await self._screen.app.push_screen_wait(SearchScreen(self._store))
        if hit is not None:
            await self._screen.show_conversation(hit.conversation_id, hit.node_id)

    async def model(self, session: ChatSession) -> None:
        """Choose which model answers in a conversation."""
        picker = ModelPicker(self._screen.services.engines, session.ref)
        ref = await self._screen.app.push_screen_wait(picker)
        if ref is not None:
            await session.use(ref)
            self._screen.follow_model(ref)

    async def settings(self, session: ChatSession) -> None:
        """Change what applies to a conversation alone."""
        form = ChatSettings(session.conversation, self._screen.services.settings)
        choices = await self._screen.app.push_screen_wait(form)
        if choices is not None:
            await session.change(system=choices.system, options=choices.options)

    async def edit(self, session: ChatSession, node: Node) -> None:
        """Say a message otherwise, on a branch of its own."""
        text = await self._screen.app.push_screen_wait(EditMessage(node.text, is_question=node.role == "user"))
        if text is not None and text != node.text:
            await session.edit(node.id, text)

    async def prompts(self) -> None:
        """Insert a saved prompt."""
        prompt = await self._screen.app.push_screen_wait(PromptLibrary(self._store))
        await self._screen.offer_commands()
        if prompt is not None:
            self._screen.write(prompt.text)

    async def save_prompt(self, text: str) -> None:
        """Save what is written as a prompt."""
        if not text.strip():
            self._screen.say("Write the prompt first, then save it.")
            return
        name = await self._screen.app.push_screen_wait(AskText("Save the prompt as", title_of(text)))
        if name is not None:
            await asyncio.to_thread(self._store.save_prompt, name, text)
            await self._screen.offer_commands()
            self._screen.say(f"Saved as “{name}”. Alt+L lists what is saved.")

    async def attach(self) -> None:
        """Let a file go with the question."""
        path = await self._screen.app.push_screen_wait(AskText("Attach a file", "", "Its text goes with the question."))
        if path is not None:
            self._screen.talk.composer.attach_files([Path(path).expanduser()])
