"""`localllm catalog`: the models that have short names."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from localllm.cli.tables import cut, table

if TYPE_CHECKING:
    from localllm.hub.catalog_entry import CatalogEntry

_HEAD = ("name", "parameters", "context", "size", "licence", "good at")
_RIGHT = (1, 2, 3)
_LICENCE = _HEAD.index("licence")

WIDE = 110
"""Columns from which on a terminal has room for the licence."""


@click.command("catalog", short_help="List the models that have short names.")
@click.argument("query", nargs=-1)
@click.option("--kind", metavar="KIND", help="Only these: chat, code, reasoning, embedding or rerank.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, with all that is known of each.")
def command(query: tuple[str, ...], kind: str | None, as_json: bool) -> None:
    """List the models that have short names, or those in whose line every word of QUERY occurs.

    Parameters are all and, after a stroke, those that a token passes through. The size is that of Q4_K_M, where there
    is one. A models.toml in the configuration directory adds models, and changes what is said of those that are here.
    """
    from localllm.errors import ModelNotFound
    from localllm.hub.catalog import load_catalog

    _check_kind(kind)
    catalog = load_catalog()
    found = catalog.search(" ".join(query), kind)
    if as_json:
        import json

        click.echo(json.dumps([_record(entry) for entry in found], allow_nan=False))
    elif found:
        click.echo("\n".join(_page(found)))
    for problem in catalog.problems:
        click.echo(f"warning: {problem}", err=True)
    if not found and not as_json:
        raise ModelNotFound(
            "No model of the catalog fits that.", hint="All of them: localllm catalog; on the hub: localllm search"
        )


def _check_kind(kind: str | None) -> None:
    from localllm.hub.catalog_entry import KINDS

    if kind is not None and kind not in KINDS:
        raise click.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}.", param_hint="--kind")


def _page(entries: list[CatalogEntry]) -> list[str]:
    """Return the table; on a terminal, no line is wider than it is."""
    rows = [_HEAD, *map(_row, entries)]
    if not sys.stdout.isatty():
        return [*table(rows, _RIGHT)]
    width = shutil.get_terminal_size().columns
    if width < WIDE:
        rows = [row[:_LICENCE] + row[_LICENCE + 1 :] for row in rows]
    return [cut(line, width) for line in table(rows, _RIGHT)]


def _row(entry: CatalogEntry) -> tuple[str, ...]:
    return (
        entry.name,
        parameters(entry),
        context(entry.n_ctx),
        file_size(entry.n_bytes()),
        entry.license or "",
        entry.good_at + (" (gated)" if entry.gated else ""),
    )


def parameters(entry: CatalogEntry) -> str:
    """Return how many parameters a model has, as "8.2B", and after a stroke those that a token passes through."""
    if entry.n_params is None:
        return ""
    return _count(entry.n_params) + (f"/{_count(entry.n_active_params)}" if entry.n_active_params else "")


def context(n_ctx: int | None) -> str:
    """Return a number of tokens as "32K", as people call powers of two; one that is no multiple of 1024 in full."""
    if n_ctx is None:
        return ""
    return f"{n_ctx >> 10}K" if n_ctx % 1024 == 0 else f"{n_ctx:,}"


def file_size(n_bytes: int | None) -> str:
    """Return a size to a tenth of its unit, which is what is known of most files: "4.7 GiB"."""
    if n_bytes is None:
        return ""
    unit, name = (1 << 30, "GiB") if n_bytes >= 1 << 30 else (1 << 20, "MiB")
    return f"{n_bytes / unit:.1f} {name}"


def _count(n: int) -> str:
    return f"{n / 1e9:.3g}B" if n >= 1e9 else f"{n / 1e6:.3g}M"


def _record(entry: CatalogEntry) -> dict[str, Any]:
    from dataclasses import asdict

    fields = asdict(entry)
    files = fields.pop("files_by_tag")
    return {**fields, "default_tag": entry.default_tag, "files": files}
