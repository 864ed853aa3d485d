"""Writes the table in docs/models.md from the catalog: python -m localllm.cli.catalog_page"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from localllm.cli.catalog import file_size, parameters
from localllm.hub.catalog import shipped_catalog
from localllm.hub.catalog_entry import KINDS, CatalogEntry

PATH = Path(__file__).resolve().parents[2] / "docs" / "models.md"

BEGIN = "<!-- written by python -m localllm.cli.catalog_page: change localllm/hub/models.toml, not this -->"
END = "<!-- end -->"

_TITLES = {"chat": "Chat", "code": "Code", "reasoning": "Reasoning", "embedding": "Embedding", "rerank": "Reranking"}
_HEAD = "| name | parameters | context | size | licence | good at |"
_RULE = "|---|---:|---:|---:|---|---|"


def page(text: str) -> str:
    """Return the text of docs/models.md with the tables of today between its two marks."""
    before, _, rest = text.partition(BEGIN)
    return "\n".join([before + BEGIN, *_tables(), END]) + rest.partition(END)[2]


def _tables() -> Iterator[str]:
    catalog = shipped_catalog()
    for kind in KINDS:
        yield from ("", f"### {_TITLES[kind]}", "", _HEAD, _RULE, *map(_row, catalog.search(kind=kind)), "")


def _row(entry: CatalogEntry) -> str:
    name = f"[`{entry.name}`](https://huggingface.co/{entry.repo})"
    n_ctx = f"{entry.n_ctx:,}" if entry.n_ctx else ""
    size = f"{file_size(entry.n_bytes())} ({entry.default_tag})" if entry.default_tag else ""
    return f"| {' | '.join((name, parameters(entry), n_ctx, size, entry.license or '', entry.good_at))} |"


if __name__ == "__main__":
    PATH.write_text(page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
