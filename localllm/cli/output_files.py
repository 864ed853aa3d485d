"""Results, on the screen or in files that flags name; those are refused before the work if they cannot be written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import click

from localllm.cli.screen import notice
from localllm.errors import RequestError

STDOUT = "-"


class Report(Protocol):
    """What a command found."""

    def json(self) -> str:
        """All of it."""

    def lines(self) -> Iterable[str]:
        """What people read."""

    def remarks(self) -> Iterable[str]:
        """What they should know of it."""


def check_writable(path: str | Path | None, flag: str) -> None:
    """Refuse now what would fail after all the work.

    Args:
        path: the file; None and "-" need none.
        flag: which named it.

    Raises:
        RequestError: it is a directory, or in none.
    """
    if path is None or str(path) == STDOUT:
        return
    path = Path(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise RequestError(f"Cannot write {path}: it is a directory, or in none.", hint=f"Check the path of {flag}.")


def write_result(path: str | Path, data: str | bytes) -> None:
    """Write a file; text gets a line feed at its end.

    Raises:
        RequestError: it cannot be written.
    """
    content = data if isinstance(data, bytes) else (data.rstrip("\n") + "\n").encode()
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise RequestError(f"Cannot write {path}: {error.strerror}.", hint="Check the path.") from error


def show_report(report: Report, json_file: str | None) -> None:
    """Print what was found, and write it as JSON if a file is named; "-" is stdout, and then there is nothing else.

    Raises:
        RequestError: the file cannot be written.
    """
    if json_file == STDOUT:
        click.echo(report.json())
        return
    for line in report.lines():
        click.echo(line)
    for line in report.remarks():
        notice(line)
    if json_file is not None:
        write_result(json_file, report.json())
