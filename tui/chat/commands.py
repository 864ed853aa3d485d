"""What one may write after a slash: the chat's actions by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """An action of the chat's screen.

    Args:
        name: with its slash.
        help: a few words.
        action: as Textual calls it.
        rest: what may be written behind it; it is handed to the action.
    """

    name: str
    help: str
    action: str
    rest: str = ""


COMMANDS = (
    Command("/new", "Begin another conversation", "new"),
    Command("/model", "Choose which model answers", "model"),
    Command("/settings", "System prompt, temperature and so on, of this chat", "settings"),
    Command("/again", "Answer once more", "regenerate"),
    Command("/continue", "Go on with what was cut off", "resume"),
    Command("/thinking", "As the model has it, on, off", "thinking"),
    Command("/attach", "Let a file go with the question", "attach", "FILE"),
    Command("/prompts", "Insert a saved prompt", "prompts"),
    Command("/save", "Save what is written as a prompt", "save_prompt", "TEXT"),
    Command("/search", "Search all conversations", "search"),
    Command("/rename", "Rename this conversation", "wish('rename')"),
    Command("/pin", "Keep this conversation above others, or let it go", "wish('pin')"),
    Command("/archive", "Put this conversation away, or bring it back", "wish('archive')"),
    Command("/delete", "Delete this conversation", "wish('delete')"),
    Command("/undo", "Bring back what was deleted", "wish('undo_delete')"),
    Command("/export", "Write this conversation to a file", "wish('export')"),
    Command("/import", "Read conversations from a file", "wish('import')"),
)


def command_of(text: str) -> tuple[Command, str] | None:
    """Return the command that a text is, and what is written behind it; None where it is a question."""
    name, _, rest = text.partition(" ")
    found = next((command for command in COMMANDS if command.name == name), None)
    return None if found is None or "\n" in text or (rest.strip() and not found.rest) else (found, rest.strip())
