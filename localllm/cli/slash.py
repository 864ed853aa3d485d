"""What a line that begins with a slash does in a chat."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from localllm.cli.conversation import Conversation
from localllm.cli.dialogue import Dialogue
from localllm.cli.screen import notice
from localllm.errors import RequestError
from localllm.llm import GenerateOptions
from localllm.llm.options import parse_options
from localllm.printable import harmless


class Command(NamedTuple):
    """A slash command: its argument's name, what it does in a line, and the doing."""

    argument: str
    help: str
    act: Callable[[Dialogue, str], None]


class Quit(Exception):
    """The person wants to leave."""


def obey(dialogue: Dialogue, line: str) -> None:
    """Do what a line such as "/save talk.md" says.

    Raises:
        RequestError: there is no such command, its argument is missing, or it cannot be done.
        Quit: it says to leave.
    """
    name, _, argument = line.removeprefix("/").partition(" ")
    argument = argument.strip()
    command = COMMANDS.get(name.lower())
    if command is None:
        raise RequestError(
            f"There is no command /{name}.", hint="See /help. To begin a message with a slash, put a space."
        )
    if command.argument.isupper() and not argument:
        raise RequestError(f"/{name} needs {command.argument}.", hint=f"/{name}: {command.help}")
    command.act(dialogue, argument)


def _help(dialogue: Dialogue, argument: str) -> None:
    rows = {f"/{name} {command.argument}".rstrip(): command.help for name, command in COMMANDS.items()}
    width = max(map(len, rows))
    notice("\n".join(f"{usage:<{width}}  {text}" for usage, text in rows.items()))
    notice('Ctrl-C stops an answer; Ctrl-D leaves. A trailing \\ or """ … """ makes a message of several lines.')


def _clear(dialogue: Dialogue, argument: str) -> None:
    dialogue.conversation.clear()
    notice("The conversation is empty.")


def _system(dialogue: Dialogue, argument: str) -> None:
    dialogue.conversation.system = argument or None
    notice("The system prompt is set." if argument else "There is no system prompt now.")


def _regen(dialogue: Dialogue, argument: str) -> None:
    dialogue.regenerate()


def _undo(dialogue: Dialogue, argument: str) -> None:
    turn = dialogue.conversation.pop()
    notice("There is nothing to undo." if turn is None else f"Taken back: {turn.question}")


def _save(dialogue: Dialogue, argument: str) -> None:
    dialogue.conversation.save(Path(argument).expanduser())
    notice(f"Saved {argument}.")


def _load(dialogue: Dialogue, argument: str) -> None:
    dialogue.conversation = Conversation.load(Path(argument).expanduser())
    n_turns = len(dialogue.conversation.turns)
    notice(f"Loaded {n_turns} question{'' if n_turns == 1 else 's'} and answer{'' if n_turns == 1 else 's'}.")


def _set(dialogue: Dialogue, argument: str) -> None:
    name, _, text = argument.partition(" ")
    if not name:
        shown = {key: value for key, value in dialogue.options.items() if value is not None and key != "json_schema"}
        notice("\n".join(f"{key} {json.dumps(value)}" for key, value in sorted(shown.items())))
        return
    changed = cast(GenerateOptions, {**dialogue.options, name: _value(text)})
    if parse_options(changed).n != 1:
        raise RequestError("A chat shows one answer at a time.", hint="Use the Python API for n.")
    dialogue.options = changed
    notice(f"{name} is {text.strip() or 'none'}.")


def _value(text: str) -> Any:
    """Read a value as JSON where it is JSON, else as text; nothing, "none" and "random" are None."""
    if text.strip().lower() in ("", "none", "random"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _stats(dialogue: Dialogue, argument: str) -> None:
    info, stats = dialogue.llm.info, msgspec.structs.asdict(dialogue.llm.stats())
    if not info.n_cells:
        notice(harmless(f"{info.name}: {info.description}, whose counters are there."))
        return
    notice(f"{info.name}: {info.description}, context {info.n_ctx}, KV {info.kv_type_k}/{info.kv_type_v}")
    notice("\n".join(f"{name} {value}" for name, value in stats.items()))


def _quit(dialogue: Dialogue, argument: str) -> None:
    raise Quit


COMMANDS = {
    "help": Command("", "Show this.", _help),
    "clear": Command("", "Forget the conversation; the system prompt stays.", _clear),
    "system": Command("[text]", "Set the system prompt; without a text, remove it.", _system),
    "regen": Command("", "Answer the last question again.", _regen),
    "undo": Command("", "Take back the last question and its answer.", _undo),
    "save": Command("FILE", "Save the conversation: .json can be loaded again, else Markdown.", _save),
    "load": Command("FILE", "Continue a conversation saved as .json.", _load),
    "set": Command("[name value]", "Set an option, such as temperature 0.7; without a name, list them.", _set),
    "stats": Command("", "Show the model and the engine's counters.", _stats),
    "quit": Command("", "Leave.", _quit),
}
"""Name to command; an argument in capitals is required."""
