"""Writes docs/cli.md from the commands themselves: python -m localllm.cli.reference"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from localllm.cli.app import VERBS, app
from localllm.cli.errors import BROKEN_PIPE, BUG, EXIT_CODES, INTERRUPTED, USAGE
from localllm.cli.slash import COMMANDS

PATH = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
WIDTH = 100

_OTHER_CODES = {
    0: "The answer is there.",
    USAGE: "The command line is wrong.",
    BUG: "A bug.",
    INTERRUPTED: "Stopped by Ctrl-C.",
    BROKEN_PIPE: "Nobody reads stdout any more.",
}


def reference() -> str:
    """Return the Markdown of docs/cli.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Command line"
    yield ""
    yield "Written by `python -m localllm.cli.reference`; change the commands, not this file."
    names = app.context_settings["help_option_names"]
    root = click.Context(
        app, info_name="localllm", terminal_width=WIDTH, max_content_width=WIDTH, help_option_names=names
    )
    yield from _section("localllm", app.get_help(root))
    for name in VERBS:
        command = app.get_command(root, name)
        assert command is not None, "every verb has a command"
        yield from _sections(name, command, root)
    yield from ("", "## In a chat", "", "| command | what it does |", "|---|---|")
    for name, slash in COMMANDS.items():
        yield f"| `{f'/{name} {slash.argument}'.rstrip()}` | {slash.help} |"
    yield from ("", "## Exit codes", "", "| code | when |", "|---|---|")
    codes = _OTHER_CODES | {code: _first_line(kind) for kind, code in EXIT_CODES.items()}
    yield from (f"| {code} | {codes[code]} |" for code in sorted(codes))


def _sections(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    """Yield a command's section, and those of its own commands."""
    context = click.Context(command, parent, info_name=name)
    yield from _section(context.command_path, command.get_help(context))
    if isinstance(command, click.Group):
        for sub_name, sub_command in command.commands.items():
            yield from _sections(sub_name, sub_command, context)


def _section(title: str, text: str) -> Iterator[str]:
    yield from ("", f"## {title}", "", "```text", *(line.rstrip() for line in text.splitlines()), "```")


def _first_line(kind: type) -> str:
    summary = (kind.__doc__ or "").strip().splitlines()[0]
    return "Any other error." if kind is next(iter(EXIT_CODES)) else summary


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
