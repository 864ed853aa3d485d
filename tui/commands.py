"""The command palette: what can be done here and everywhere, models to chat with, conversations, settings, themes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode
from textual.types import IgnoreReturnCallbackType
from textual.widget import Widget

from localllm.errors import LocalLLMError
from tui.keys import bindings_here
from tui.messages import ChatWith

if TYPE_CHECKING:
    from tui.app import LocalLLM

N_CONVERSATIONS = 50


@dataclass(frozen=True)
class Command:
    """One line of the palette."""

    title: str
    run: IgnoreReturnCallbackType
    help: str = ""
    keys: str = ""
    is_offered: bool = True
    """Whether it is shown before anything is typed."""


class AppCommands(Provider):
    """Everything that the app can be told to do from where one is."""

    async def startup(self) -> None:
        self._commands = [*self._bindings(), *self._settings(), *self._themes()]
        self._found = asyncio.create_task(asyncio.to_thread(self._models_and_conversations))

    async def discover(self) -> Hits:
        for command in self._commands:
            if command.is_offered:
                yield DiscoveryHit(_prompt(command, Content(command.title)), command.run, command.title, command.help)
        for command in (await self._found)[:10]:
            yield DiscoveryHit(_prompt(command, Content(command.title)), command.run, command.title, command.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in [*self._commands, *await self._found]:
            score = matcher.match(command.title)
            # A model's name may look like markup, so what matches is not marked in it.
            if score > 0:
                yield Hit(score, _prompt(command, Content(command.title)), command.run, command.title, command.help)

    @property
    def _localllm(self) -> LocalLLM:
        from tui.screens.mode import the_app

        return the_app(self.screen)

    def _bindings(self) -> Iterator[Command]:
        keymap = dict(self._localllm.services.settings.keymap)
        for node, binding, bound in bindings_here(self.screen, keymap):
            where = "" if bound.where == "Everywhere" else f"{bound.where}: "
            help_text = bound.help or f"{bound.where}, {bound.label}"
            yield Command(f"{where}{bound.description}", self._runner(node, binding.action), help_text, bound.label)

    def _runner(self, node: DOMNode, action: str) -> IgnoreReturnCallbackType:
        async def run() -> None:
            if isinstance(node, Widget) and node.focusable:
                node.focus()
            await self.app.run_action(action, node)

        return run

    def _settings(self) -> Iterator[Command]:
        from localllm.config import Settings
        from tui.settings_edit import KEYMAP

        for name in Settings.names():
            if name != KEYMAP:
                yield Command(f"Setting: {name}", self._setting_editor(name), Settings.help(name), is_offered=False)

    def _setting_editor(self, name: str) -> IgnoreReturnCallbackType:
        def edit() -> None:
            from tui.screens.edit_setting import EditSetting

            self.app.push_screen(EditSetting(name))

        return edit

    def _themes(self) -> Iterator[Command]:
        for name in self.app.available_themes:
            yield Command(f"Theme: {name}", self._theme_setter(name), "Until the end of the app", is_offered=False)

    def _theme_setter(self, name: str) -> IgnoreReturnCallbackType:
        def take() -> None:
            self.app.theme = name

        return take

    def _models_and_conversations(self) -> list[Command]:
        """Return what is found on the disk. What cannot be read is not offered; its own screen says why."""
        found: list[Command] = []
        for kind in (self._models, self._conversations):
            with suppress(LocalLLMError, OSError):
                found += kind()
        return found

    def _models(self) -> Iterator[Command]:
        from localllm.gguf.problems import printable
        from localllm.store.inventory import Inventory

        inventory = Inventory(self._localllm.services.settings.model_dirs)
        for model in inventory.models:
            ref = inventory.ref(model)
            yield Command(f"Chat with {printable(ref, 200)}", self._chat_beginner(ref), "Begin a chat")

    def _chat_beginner(self, ref: str) -> IgnoreReturnCallbackType:
        return lambda: self.app.post_message(ChatWith(ref))

    def _conversations(self) -> Iterator[Command]:
        from localllm.gguf.problems import printable

        store = getattr(self._localllm.services, "conversations", None)
        if store is None:
            return
        for one in store.conversations(limit=N_CONVERSATIONS):
            yield Command(f"Open: {printable(one.title or 'Untitled', 200)}", self._opener(one.id), "A conversation")

    def _opener(self, conversation_id: int) -> IgnoreReturnCallbackType:
        async def show() -> None:
            await self.app.switch_mode("chat")
            await self.app.screen.show_conversation(conversation_id)  # type: ignore[attr-defined, unused-ignore]

        return show


def _prompt(command: Command, title: Content) -> Content:
    return title + Content.styled(f"  {command.keys}", "bold $primary") if command.keys else title
