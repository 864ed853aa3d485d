"""`localllm search`: models on the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from localllm.cli.screen import notice
from localllm.cli.tables import table

if TYPE_CHECKING:
    from localllm.hub.client import FoundRepo, SearchOrder

ORDERS = ("downloads", "likes", "updated", "created", "trending")
N_QUANTIZATIONS_MAX = 6
"""That a line of the table names."""


@click.command("search", short_help="Find GGUF models on the Hugging Face Hub.")
@click.argument("query", metavar="QUERY")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Models to show at most.")
@click.option("--sort", "order", type=click.Choice(ORDERS), default="downloads", show_default=True, help="Which first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def command(query: str, limit: int, order: SearchOrder, as_json: bool) -> None:
    """Find repositories with GGUF files on the hub, by words of their names.

    Downloads are those of the last 30 days. HF_ENDPOINT names another hub.

    \b
    localllm search "qwen2.5 coder"
    localllm pull "$(localllm search smollm2 --limit 1 --json | jq -r '.[0].repo')"
    """
    from localllm.hub.client import HubClient

    found = HubClient().search(query, limit=limit, order=order)
    if as_json:
        click.echo(_json(found))
    elif found:
        click.echo("\n".join(table([_HEAD, *map(_row, found)], right=(1, 2, 4))))
    else:
        notice("Nothing found. Try fewer words.")


_HEAD = ("repository", "downloads", "likes", "updated", "weights", "quantizations")


def _row(repo: FoundRepo) -> tuple[str, ...]:
    from localllm.gguf import printable

    shown = ", ".join(repo.quantizations[:N_QUANTIZATIONS_MAX])
    n_more = len(repo.quantizations) - N_QUANTIZATIONS_MAX
    return (
        printable(repo.repo, 100) + (" (gated)" if repo.is_gated else ""),
        f"{repo.n_downloads:,}",
        f"{repo.n_likes:,}",
        f"{repo.updated:%Y-%m-%d}" if repo.updated else "",
        _count(repo.n_params) if repo.n_params else "",
        shown + (f" and {n_more} more" if n_more > 0 else ""),
    )


def _count(n: int) -> str:
    return f"{n / 1e9:.1f} B" if n >= 1e9 else f"{n / 1e6:.0f} M"


def _json(found: list[FoundRepo]) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(
        [asdict(repo) | {"updated": repo.updated.isoformat() if repo.updated else None} for repo in found]
    )
