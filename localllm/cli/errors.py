"""From an exception to an exit code and a line on stderr."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from localllm import errors

DEBUG_VARIABLE = "LOCALLLM_DEBUG"

USAGE = 2
BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

EXIT_CODES: dict[type[errors.LocalLLMError], int] = {
    errors.LocalLLMError: 1,
    errors.ModelError: 3,
    errors.ModelNotFound: 4,
    errors.NotEnoughMemory: 5,
    errors.AllocationFailed: 5,
    errors.RequestError: 6,
    errors.ContextLengthExceeded: 7,
    errors.EngineError: 8,
    errors.ServerError: 9,
    errors.NotEnoughDisk: 10,
    errors.HubError: 11,
    errors.HubNotFound: 13,
    errors.HubAccessDenied: 12,
}
"""The code of the nearest class above an error's own."""


def exit_code(error: errors.LocalLLMError) -> int:
    """Return the exit code of `error`."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def show_error(message: str, hint: str | None = None) -> None:
    """Print an error, and what to do about it, a line each, on stderr."""
    click.secho("error: ", fg="red", err=True, nl=False)
    click.echo(_one_line(message), err=True)
    if hint:
        click.secho("hint: ", fg="cyan", err=True, nl=False)
        click.echo(_one_line(hint), err=True)


def guarded(action: Callable[[], object]) -> int:
    """Run `action` and return the process's exit code; an int that it returns is its own.

    Whatever is raised becomes a line on stderr. With LOCALLLM_DEBUG set, the traceback comes first.
    """
    try:
        result = action()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE
    except Exception as error:
        return _report(error)
    return result if isinstance(result, int) else 0


def _report(error: Exception) -> int:
    is_debug = os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    if is_debug:
        import traceback

        traceback.print_exc()
    match error:
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "localllm"
            show_error(error.format_message(), f"See {path} --help.")
            return USAGE
        case click.ClickException():
            show_error(error.format_message())
            return error.exit_code
        case errors.LocalLLMError():
            show_error(error.message, error.hint)
            return exit_code(error)
    show_error(
        f"{type(error).__name__}: {error} (this is a bug)",
        None if is_debug else f"Run it again with {DEBUG_VARIABLE}=1 for the traceback, and report it.",
    )
    return BUG


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _abandon_stdout() -> None:
    """Let the interpreter's last flush go nowhere, where it would complain."""
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
