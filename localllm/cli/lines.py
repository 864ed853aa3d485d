"""Reading what a person types: one line, or several."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

PROMPT = "> "
MORE = ". "
QUOTES = '"""'

ReadLine = Callable[[str], str]
"""Takes a prompt and returns a line without its line feed; raises EOFError at the end."""


def terminal_line(prompt: str) -> str:
    """Read from a terminal, with editing and the history of this session, which is kept in memory only."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # Its import is what gives `input` editing and history.
    try:
        return input(prompt)
    except EOFError:
        click.echo(err=True)
        raise


def piped_line(prompt: str) -> str:
    """Read from a pipe, without a prompt."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\r\n")


def read_message(read_line: ReadLine) -> str:
    '''Read one message: a line; lines that end in a backslash and the next one; or what stands between """ and """.

    Raises:
        EOFError: there is nothing more to read.
    '''
    line = read_line(PROMPT)
    if line.lstrip().startswith(QUOTES):
        return _quoted(line.lstrip().removeprefix(QUOTES), read_line)
    lines = []
    while line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        line = _next(read_line)
    return "\n".join([*lines, line])


def _quoted(line: str, read_line: ReadLine) -> str:
    lines = []
    while not line.rstrip().endswith(QUOTES):
        lines.append(line)
        try:
            line = read_line(MORE)
        except EOFError:
            return "\n".join(lines).strip("\n")
    lines.append(line.rstrip().removesuffix(QUOTES))
    return "\n".join(lines).strip("\n")


def _next(read_line: ReadLine) -> str:
    try:
        return read_line(MORE)
    except EOFError:
        return ""
