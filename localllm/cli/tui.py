"""`localllm tui`, and `localllm` alone in a terminal: the terminal UI."""

from __future__ import annotations

import os
import shlex
import sys

import click

from localllm.errors import RequestError

_LOCAL = ("127.0.0.1", "localhost", "::1")


@click.command("tui", short_help="Open the terminal interface; so does localllm alone.")
@click.option("--web", is_flag=True, help="Show it in a browser.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --web: the address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="With --web: its port.")
def command(web: bool, host: str, port: int) -> None:
    """Chat, and do everything else that localllm can, without leaving the terminal. F1 shows the keys.

    \b
    localllm tui
    localllm tui --web     the same in a browser
    """
    if web:
        _serve(host, port)
    else:
        open_tui()


def can_open() -> bool:
    """Whether somebody sits at a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def open_tui() -> None:
    """Show the terminal UI until it is quit.

    Raises:
        RequestError: the terminal cannot show it, or a setting is not allowed.
    """
    # textual-serve talks to its app over pipes.
    if "TEXTUAL_DRIVER" not in os.environ:
        _check_terminal()
    from tui.app import LocalLLM

    app = LocalLLM()
    app.run()
    if app.return_code:
        sys.exit(app.return_code)


def _check_terminal() -> None:
    if not can_open():
        raise RequestError(
            "The interface needs a terminal, and input or output is something else.",
            hint="Without one: localllm run, localllm serve.",
        )
    if os.environ.get("TERM", "") in ("", "dumb", "unknown") and sys.platform != "win32":
        raise RequestError(
            "This terminal cannot move its cursor (TERM is dumb or not set).",
            hint="Use localllm chat, or set TERM to what the terminal is, such as xterm-256color.",
        )
    encoding = (sys.stderr.encoding or "").lower().replace("-", "").replace("_", "")
    if encoding not in ("utf8", "utf8sig"):
        raise RequestError(
            f"The interface is written in UTF-8, and this terminal's encoding is {sys.stderr.encoding}.",
            hint="Set LC_ALL=C.UTF-8, in a terminal that shows UTF-8.",
        )


def _serve(host: str, port: int) -> None:
    try:
        from tui.web import GuardedServer
    except ImportError as error:
        raise RequestError(
            f"The packages for browsers are not installed ({error.name} is missing).",
            hint='Install them: pip install "localllm[web]"',
        ) from error
    from localllm.config import load_settings

    load_settings()
    server = GuardedServer(shlex.join([sys.executable, "-m", "localllm", "tui"]), host, port)
    click.echo(f"localllm in a browser: {server.public_url}\nCtrl-C stops it.", err=True)
    who = "Whoever uses this computer" if host in _LOCAL else "Every machine that reaches this port"
    click.secho(f"warning: {who} can open it, without a key, and use your models and files.", fg="yellow", err=True)
    try:
        server.serve()
    except OSError as error:
        raise RequestError(
            f"Cannot listen on {host}, port {port}: {error.strerror}.", hint="Choose another with --port."
        ) from error
