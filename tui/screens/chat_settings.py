"""The settings of one conversation: its system prompt, and how its answers are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input, Label, TextArea

from localllm.config import Settings
from localllm.errors import LocalLLMError
from tui.chat.option_fields import FIELDS
from tui.chat.options import chosen_options
from tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from localllm.conversations import Conversation


@dataclass(frozen=True)
class ChatChoices:
    """What was decided for a conversation."""

    system: str | None
    options: Mapping[str, Any]


class ChatSettings(Dialog[ChatChoices]):
    """A form; what is left empty is as the settings have it.

    Args:
        conversation: whose.
        settings: what applies where it does not say.
    """

    DEFAULT_CSS = """
    ChatSettings {
        & .heading { color: $text-muted; }
        & .second { margin-top: 1; }
        & #system { height: 5; border: none; background: $panel; padding: 0 1; }
        & .row { height: 1; }
        & .row Label { width: 18; }
        & .row Input { width: 20; border: none; height: 1; background: $panel; }
        & .row Input.-invalid { color: $error; text-style: underline; }
        & .row .source { width: 1fr; color: $text-muted; margin-left: 2; }
        & #problem { color: $error; height: auto; }
        & #buttons { height: 1; align-horizontal: right; }
        & #fields { height: 1fr; }
    }
    """
    HEADING = "Settings of this chat"
    KEYS = "Enter or F10 takes them · Esc closes"
    IS_TALL = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f10", "take", "Take", id="chat_settings.take", priority=True)]

    def __init__(self, conversation: Conversation, settings: Settings) -> None:
        super().__init__()
        self._conversation = conversation
        self._settings = settings

    def compose_panel(self) -> ComposeResult:
        with VerticalScroll(id="fields", can_focus=False):
            yield Label("System prompt", classes="heading")
            yield TextArea(self._conversation.system or "", id="system", tab_behavior="focus")
            yield Label("Answers; what is left empty is as the settings have it", classes="heading second")
            chosen = {option.name: option for option in chosen_options(self._settings, self._conversation)}
            for field in FIELDS:
                option = chosen[field.name]
                is_own = field.name in self._conversation.options
                fallback = field.shown(option.fallback)
                source = self._settings.source(field.name) if field.name in Settings.names() else "default"
                with Horizontal(classes="row"):
                    yield Label(field.label)
                    yield Input(field.shown(option.value) if is_own else "", placeholder=fallback, id=field.name)
                    yield Label(Content(source), classes="source")
        yield Label("", id="problem")
        with Horizontal(id="buttons"):
            yield Button("Take", variant="primary", id="take", compact=True)

    def on_mount(self) -> None:
        self.query_one("#problem").display = False

    @on(Input.Changed)
    def _look(self, event: Input.Changed) -> None:
        event.stop()
        field = next(one for one in FIELDS if one.name == event.input.id)
        try:
            if event.value.strip():
                field.parse(event.value)
        except LocalLLMError as error:
            self._complain(event.input, error.message)
        else:
            self._complain(event.input, "")

    def _complain(self, which: Input, problem: str) -> None:
        which.set_class(bool(problem), "-invalid")
        label = self.query_one("#problem", Label)
        label.update(Content(problem))
        label.display = bool(problem)

    @on(Input.Submitted)
    @on(Button.Pressed)
    def _submitted(self, event: Input.Submitted | Button.Pressed) -> None:
        event.stop()
        self.action_take()

    def action_take(self) -> None:
        """Answer with what the form has, if all of it is allowed."""
        options: dict[str, Any] = {}
        for field in FIELDS:
            box = self.query_one(f"#{field.name}", Input)
            if not box.value.strip():
                continue
            try:
                options[field.name] = field.parse(box.value)
            except LocalLLMError as error:
                self._complain(box, error.message)
                box.focus()
                return
        unlisted = {name: value for name, value in self._conversation.options.items() if name not in _NAMES}
        system = self.query_one("#system", TextArea).text.strip() or None
        self.dismiss(ChatChoices(system, {**unlisted, **options}))


_NAMES = {field.name for field in FIELDS}
