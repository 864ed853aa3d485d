"""The catalog: the models that have short names, what is known of them, and where they are on the hub.

Shipped as models.toml beside this module. A user's own, in the configuration directory, is merged over it, entry by
entry and field by field. An entry of his that breaks a rule is an error when it is asked for; the others serve.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import ModelNotFound, RequestError
from localllm.hub.catalog_entry import KINDS, CatalogEntry
from localllm.hub.catalog_source import checked_entry, merged, read_tables
from localllm.hub.file_names import quantization_of
from localllm.hub.refs import NameRef, RepoRef

FILE_NAME = "models.toml"
SHIPPED = Path(__file__).with_name(FILE_NAME)
"""Beside this module, in a checkout and in an installation; the checkout's top folder has a link to it."""


@dataclass(frozen=True)
class Catalog:
    """Models by name, in the order of KINDS, small ones first."""

    entries: Mapping[str, CatalogEntry]
    broken: Mapping[str, RequestError] = field(default_factory=dict)
    """Names whose entries in the user's file break a rule."""
    unread: RequestError | None = None
    """Why the user's file could not be read at all."""

    @property
    def problems(self) -> tuple[RequestError, ...]:
        """What is wrong with the user's file."""
        return ((self.unread,) if self.unread else ()) + tuple(self.broken.values())

    def find(self, name: str, tag: str | None = None) -> CatalogEntry:
        """Return the model of a name, which may be written in capitals.

        Args:
            name: as `CatalogEntry.name`.
            tag: a quantization that it must have.

        Raises:
            ModelNotFound: no model has this name, or this one is not known in that quantization.
            RequestError: the user's file says something of it that breaks a rule, or cannot be read and might know it.
        """
        name = name.lower()
        if name in self.broken:
            raise self.broken[name]
        entry = self.entries.get(name)
        if entry is not None:
            entry.tag(tag)
            return entry
        if self.unread is not None:
            raise self.unread
        from localllm.gguf.problems import printable

        near = self._names_like(name, tag)
        guess = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ModelNotFound(f"The catalog has no {printable(name)}.{guess}", hint="See what there is: localllm catalog")

    def _names_like(self, name: str, tag: str | None) -> list[str]:
        """Return up to three names that may have been meant. Elsewhere a tag may be the size: llama3.2:3b."""
        if tag is not None and quantization_of(tag) is None:
            name = f"{name}-{tag.lower()}"
        return get_close_matches(name, self.entries, n=3, cutoff=0.5)

    def search(self, query: str = "", kind: str | None = None) -> list[CatalogEntry]:
        """Return the models in which every word of a query occurs, in the catalog's order."""
        words = query.lower().split()
        return [
            entry
            for entry in self.entries.values()
            if (kind is None or entry.kind == kind) and all(word in _text_of(entry) for word in words)
        ]


def load_catalog(own: Path | None = None) -> Catalog:
    """Return the shipped catalog with the user's over it. What is wrong with the user's is in the result.

    Args:
        own: the user's file, which need not exist; None is models.toml in the configuration directory.
    """
    own = paths.config_dir() / FILE_NAME if own is None else own
    if not own.exists():
        return shipped_catalog()
    entries = {**shipped_catalog().entries}
    try:
        text, tables = read_tables(own)
    except RequestError as error:
        return Catalog(entries, unread=error)
    base = _shipped_tables()[1]
    broken = {}
    for name, table in tables.items():
        try:
            entries[name] = checked_entry(own, text, name, merged(base.get(name), table))
        except RequestError as error:
            entries.pop(name, None)
            broken[name] = error
    return Catalog(_sorted(entries), broken)


@cache
def shipped_catalog() -> Catalog:
    """Return the catalog of this installation alone.

    Raises:
        RequestError: it breaks a rule, which the tests would have found.
    """
    text, tables = _shipped_tables()
    return Catalog(_sorted({name: checked_entry(SHIPPED, text, name, table) for name, table in tables.items()}))


def repo_ref(ref: NameRef, catalog: Catalog | None = None, *, is_any_quantization: bool = False) -> RepoRef:
    """Return what a short name means on the hub: a file, that of the default quantization where none is named.

    A file, since repositories hold others of the same quantization: heads for drafting, the same model in parts.

    Args:
        ref: the name.
        catalog: to look in; None loads it.
        is_any_quantization: without a quantization, mean the repository: for finding what is on a disk.

    Raises:
        ModelNotFound, RequestError: as `Catalog.find`.
    """
    entry = (catalog or load_catalog()).find(ref.name, ref.tag)
    known = entry.files(ref.tag)
    if not known or (ref.tag is None and is_any_quantization):
        return RepoRef(entry.repo, ref.tag)
    return RepoRef(entry.repo, file=known[0].path)


@cache
def _shipped_tables() -> tuple[str, dict[str, Any]]:
    return read_tables(SHIPPED)


def _sorted(entries: Mapping[str, CatalogEntry]) -> dict[str, CatalogEntry]:
    def place(entry: CatalogEntry) -> tuple[int, int, str]:
        return KINDS.index(entry.kind), entry.n_params or 0, entry.name

    return {entry.name: entry for entry in sorted(entries.values(), key=place)}


def _text_of(entry: CatalogEntry) -> str:
    words: Iterator[str] = filter(None, (entry.name, entry.title, entry.kind, entry.license, entry.good_at))
    return " ".join(words).lower()
