"""`localllm ps`: what a running server has loaded, and what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from localllm.cli.remote import DEFAULT_URL, get_json
from localllm.cli.tables import duration, size, table
from localllm.printable import harmless

STATUS_PATH = "/v1/admin/status"

_HEAD = ("model", "state", "memory", "context", "running", "waiting", "idle", "")
_RIGHT = (2, 3, 4, 5, 6)


@click.command("ps", short_help="Show what a running server has loaded.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The server's address.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(url: str, as_json: bool) -> None:
    """Show what a running server has loaded, what runs and what waits.

    The key, if the server needs one, is taken from LOCALLLM_API_KEY.
    """
    status = get_json(url, STATUS_PATH)
    if as_json:
        import json

        click.echo(json.dumps(status, allow_nan=False))
        return
    click.echo("\n".join(_page(status)))


def _page(status: dict[str, Any]) -> Iterator[str]:
    models = status["models"]
    yield from (harmless(line) for line in table([_HEAD, *map(_row, models)], _RIGHT))
    yield from (f"{harmless(model['id'])}: {harmless(model['error'])}" for model in models if model["error"])


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    slots = f"{model['running']}/{model['slots']}" if model["slots"] else ""
    return (
        model["id"],
        _state(model),
        size(model["memory_bytes"]) if model["memory_bytes"] else "",
        f"{model['context_length']:,}" if model["context_length"] else "",
        slots,
        f"{model['waiting']}" if slots else "",
        duration(model["idle_s"]) if model["idle_s"] is not None else "",
        "pinned" if model["pinned"] else "",
    )


def _state(model: dict[str, Any]) -> str:
    share = model["load_progress"]
    return model["state"] if share is None else f"loading {share:.0%}"
