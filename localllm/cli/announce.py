"""What `localllm serve` says when it is ready, and opening its page in a browser."""

from __future__ import annotations

import logging
import os
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from localllm import __version__

if TYPE_CHECKING:
    from localllm.server.settings import ServerSettings

log = logging.getLogger("localllm.server")

_MAX_NAMES = 4


def announce(settings: ServerSettings, names: Sequence[str], *, as_json: bool) -> None:
    """Say on stderr what is served and where; a line of the log where programs read it."""
    if as_json:
        fields = {"version": __version__, "url": settings.base_url, "models": list(names)}
        log.info("serving", extra={"fields": fields})
        return
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    lines = [
        f"localllm {__version__} serves {', '.join(names[:_MAX_NAMES])}{more}",
        f"  page  {settings.base_url}",
        f"  API   {settings.base_url}/v1  (reference: {settings.base_url}/docs)",
        f"  key   {_key_line(settings)}",
        "Ctrl-C stops it.",
    ]
    click.echo("\n".join(lines), err=True)


def _key_line(settings: ServerSettings) -> str:
    if settings.key_digests:
        return "needed"
    return (
        "none; only this machine can reach it" if settings.is_local else "NONE: everybody who can reach it may use it"
    )


def open_browser(url: str) -> None:
    """Show the page in a browser, on a thread of its own: some browsers return only when they are closed."""
    threading.Thread(target=_open, args=(url,), daemon=True, name="browser").start()


def _open(url: str) -> None:
    # Without a screen, a browser for terminals would take over this one.
    has_screen = sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    if not has_screen or not webbrowser.open(url):
        click.echo(f"There is no browser to open here; the page is at {url}", err=True)
