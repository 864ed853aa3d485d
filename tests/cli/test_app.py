"""The root command: help, version, and how long they take."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from localllm import __version__
from localllm.cli.app import VERBS
from localllm.cli.reference import PATH, reference
from tests.cli.conftest import Cli


def test_version_is_printed(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out) == (0, f"localllm {__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_verb(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 0
    assert all(f"  {name} " in result.out for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_short_help_in_the_list_is_the_commands_own(name: str) -> None:
    module, _, attribute = VERBS[name].home.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.short_help is None or command.short_help == VERBS[name].short_help


def test_unknown_verb_is_one_line_with_a_hint(cli: Cli) -> None:
    result = cli("frobnicate")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"error: There is no command 'frobnicate'; there are {', '.join(VERBS)}.",
        "hint: See localllm --help.",
    ]


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['localllm', '--help']; from localllm.cli import main; main();"
        "print(*sorted(m for m in sys.modules if m.startswith('localllm') or m in "
        "('rich', 'numpy', 'llama_cpp', 'msgspec', 'jinja2')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == [
        "localllm",
        "localllm._version",
        "localllm.cli",
        "localllm.cli.app",
        "localllm.cli.errors",
        "localllm.errors",
    ]


def test_reference_page_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == reference(), "Run: python -m localllm.cli.reference"
