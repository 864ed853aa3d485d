"""The options of a conversation's answers: its own before the settings' before the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui.engines import is_local

if TYPE_CHECKING:
    from localllm.config import Settings
    from localllm.conversations import Conversation

FROM_SETTINGS = (
    "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "context_policy", "n_sink",
)  # fmt: skip
OWN_ONLY = {"spec": None, "thinking": None, "reasoning_budget": None}
"""Options that no setting has for an answer; None leaves them to the model, or to how it was loaded."""


@dataclass(frozen=True)
class ChosenOption:
    """One option, as it applies."""

    name: str
    value: Any
    source: str
    """"this chat", a variable, the file's path, or "default"."""
    fallback: Any
    """What it is where the conversation does not say."""


def answer_options(settings: Settings, conversation: Conversation, ref: str) -> dict[str, Any]:
    """Return GenerateOptions; of a model that is elsewhere only those that somebody chose: the rest is its own."""
    wanted = FROM_SETTINGS if is_local(ref) else [name for name in FROM_SETTINGS if settings.source(name) != "default"]
    return {**{name: getattr(settings, name) for name in wanted}, **conversation.options}


def chosen_options(settings: Settings, conversation: Conversation) -> list[ChosenOption]:
    """Return all options that one may set for a conversation."""
    return [
        *(_chosen(conversation, name, getattr(settings, name), settings.source(name)) for name in FROM_SETTINGS),
        *(_chosen(conversation, name, fallback, "default") for name, fallback in OWN_ONLY.items()),
    ]


def next_thinking(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with thinking one step on: as the model has it, on, off."""
    step = {None: True, True: False, False: None}[options.get("thinking")]
    rest = {name: value for name, value in options.items() if name != "thinking"}
    return rest if step is None else {**rest, "thinking": step}


def _chosen(conversation: Conversation, name: str, fallback: Any, source: str) -> ChosenOption:
    if name in conversation.options:
        return ChosenOption(name, conversation.options[name], "this chat", fallback)
    return ChosenOption(name, fallback, source, fallback)
