"""The models that are listed: those on this disk, those of the catalog, and what a search of the hub found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tui.model_texts import clean, count_text

if TYPE_CHECKING:
    from pathlib import Path

    from localllm.hub.catalog import Catalog
    from localllm.hub.catalog_entry import CatalogEntry
    from localllm.hub.client import FoundRepo
    from localllm.store.facts import Facts
    from localllm.store.inventory import Inventory
    from localllm.store.models import StoredModel

Source = Literal["all", "here", "catalog", "hub"]
SOURCES: tuple[Source, ...] = ("all", "here", "catalog", "hub")
KINDS = ("any", "chat", "code", "reasoning", "embedding", "tiny")
TINY_PARAMS = 1_000_000_000
"""Below this many parameters a model is tiny."""
BITS_PER_WEIGHT = 4.85
"""Of Q4_K_M, by which the size of what the hub found is guessed."""


@dataclass(frozen=True)
class ModelRow:
    """One model, wherever it is."""

    key: str
    """Tells it from all others."""
    source: Literal["here", "catalog", "hub"]
    ref: str
    """What all commands call it."""
    kind: str
    """As the catalog's; "text" where only the file is known, "adapter" for a LoRA."""
    n_bytes: int | None = None
    is_rough: bool = False
    """Whether the size is a guess."""
    n_params: int | None = None
    size_label: str = ""
    """How many parameters it has, in the maker's words."""
    quantization: str = ""
    place: str = ""
    """Where it is; empty: not on this disk."""
    n_ctx: int | None = None
    repo: str = ""
    """ "org/name" on the hub, where it has one."""
    note: str = ""
    """What it is good at, or what is wrong with it."""
    is_gated: bool = False
    stored: StoredModel | None = None
    entry: CatalogEntry | None = None
    found: FoundRepo | None = None

    @property
    def is_here(self) -> bool:
        return self.stored is not None

    @property
    def is_adapter(self) -> bool:
        return self.kind == "adapter"

    @property
    def path(self) -> Path | None:
        """The file to open, if it is here."""
        return None if self.stored is None else self.stored.path

    @property
    def weights(self) -> str:
        """How many parameters it has, in a few letters."""
        return self.size_label or count_text(self.n_params)


@dataclass(frozen=True)
class Filter:
    """What of all models is listed."""

    words: str = ""
    source: Source = "all"
    kind: str = "any"
    only_fitting: bool = False


@dataclass(frozen=True)
class Shelf:
    """All models that are known now."""

    here: tuple[ModelRow, ...] = ()
    catalog: tuple[ModelRow, ...] = ()
    hub: tuple[ModelRow, ...] = ()
    problems: tuple[str, ...] = ()
    """What is wrong with the user's own catalog."""

    def rows(self, chosen: Filter, too_large: Iterable[str] = ()) -> list[ModelRow]:
        """Return the models that a filter lets through: here first, then the catalog's with what fits first.

        Args:
            chosen: the filter.
            too_large: keys of models that do not fit this machine.
        """
        large = frozenset(too_large)
        match chosen.source:
            case "here":
                rows: Sequence[ModelRow] = self.here
            case "catalog":
                rows = self._fitting_first(self.catalog, large)
            case "hub":
                return [row for row in self.hub if _fits(row, chosen, large)]
            case "all":
                rows = [*self.here, *self._fitting_first([row for row in self.catalog if not row.place], large)]
        return [row for row in rows if _fits(row, chosen, large) and _has_words(row, chosen.words)]

    @staticmethod
    def _fitting_first(rows: Sequence[ModelRow], large: frozenset[str]) -> list[ModelRow]:
        return sorted(rows, key=lambda row: row.key in large)


def read_shelf(model_dirs: Sequence[Path] | None = None) -> Shelf:
    """Read what is on this disk, and the catalog. Slow: call it on a thread."""
    from localllm.hub.catalog import load_catalog
    from localllm.store.header_cache import facts_of
    from localllm.store.inventory import Inventory

    catalog, inventory = load_catalog(), Inventory(model_dirs)
    models = inventory.models
    by_repo = {entry.repo.lower(): entry for entry in catalog.entries.values()}
    here = [
        _here(inventory, model, facts, by_repo, catalog.entries)
        for model, facts in zip(models, facts_of(models), strict=True)
    ]
    problems = tuple(f"{problem} {problem.hint or ''}".rstrip() for problem in catalog.problems)
    return Shelf(tuple(here), tuple(_catalog_rows(catalog, here)), problems=problems)


def found_rows(found: Iterable[FoundRepo], here: Iterable[ModelRow]) -> tuple[ModelRow, ...]:
    """Return what a search of the hub found."""
    places = {row.repo.lower(): row.place for row in here if row.repo}
    return tuple(_found(repo, places.get(repo.repo.lower(), "")) for repo in found)


def _here(
    inventory: Inventory,
    model: StoredModel,
    facts: Facts,
    by_repo: Mapping[str, CatalogEntry],
    by_name: Mapping[str, CatalogEntry],
) -> ModelRow:
    from localllm.store.models import Place

    ref = inventory.ref(model)
    repo = _repo_of(model) if model.place in (Place.HUGGING_FACE, Place.LM_STUDIO) else ""
    entry = by_repo.get(repo.lower()) or by_name.get(ref)
    kind = facts.kind or "text"
    return ModelRow(
        key=f"here:{ref}:{model.path}",
        source="here",
        ref=ref,
        kind=entry.kind if entry is not None and kind == "text" else kind,
        n_bytes=model.n_bytes,
        n_params=facts.n_params or _params_in(facts.size_label),
        size_label=clean(facts.size_label or "", 12),
        quantization=facts.quantization or "",
        place=str(model.place),
        n_ctx=facts.n_ctx_train,
        repo=repo,
        note=f"damaged: {facts.problem}" if facts.problem else "",
        stored=model,
        entry=entry,
    )


def _catalog_rows(catalog: Catalog, here: Sequence[ModelRow]) -> Iterable[ModelRow]:
    places = {row.repo.lower(): row.place for row in here if row.repo}
    refs = {row.ref for row in here}
    for entry in catalog.entries.values():
        yield ModelRow(
            key=f"catalog:{entry.name}",
            source="catalog",
            ref=entry.name,
            kind=entry.kind,
            n_bytes=entry.n_bytes(),
            n_params=entry.n_params,
            quantization=entry.default_tag or "",
            place=places.get(entry.repo.lower(), "") or ("demo" if entry.name in refs else ""),
            n_ctx=entry.n_ctx,
            repo=entry.repo,
            note=entry.good_at,
            is_gated=bool(entry.gated),
            entry=entry,
        )


def _found(repo: FoundRepo, place: str) -> ModelRow:
    from localllm.hub.preference import place_of

    n_bytes = int(repo.n_params * BITS_PER_WEIGHT / 8) if repo.n_params else None
    return ModelRow(
        key=f"hub:{repo.repo}",
        source="hub",
        ref=repo.repo,
        kind="text",
        n_bytes=n_bytes,
        is_rough=True,
        n_params=repo.n_params,
        quantization=min(repo.quantizations, key=place_of, default=""),
        place=place,
        repo=repo.repo,
        note=f"{repo.n_downloads:,} downloads this month",
        is_gated=repo.is_gated,
        found=repo,
    )


def _repo_of(model: StoredModel) -> str:
    """Return the repository that a model's names begin with; empty if they say none."""
    from localllm.errors import RequestError
    from localllm.hub.refs import RepoRef, parse_ref

    for name in model.names:
        try:
            ref = parse_ref(name)
        except RequestError:
            continue
        if isinstance(ref, RepoRef):
            return ref.repo
    return ""


def _params_in(label: str | None) -> int | None:
    """Return how many parameters "1.5B" means; None for what is no single number."""
    if not label:
        return None
    unit = {"B": 10**9, "M": 10**6}.get(label[-1].upper())
    try:
        return int(float(label[:-1]) * unit) if unit else None
    except ValueError:
        return None


def _fits(row: ModelRow, chosen: Filter, large: frozenset[str]) -> bool:
    if chosen.only_fitting and row.key in large:
        return False
    if chosen.kind == "any":
        return True
    if chosen.kind == "tiny":
        return row.n_params is not None and row.n_params < TINY_PARAMS and not row.is_adapter
    # A file does not say what its model is good at; who looks for one to talk to shall find it.
    return row.kind == chosen.kind or (chosen.kind == "chat" and row.kind == "text")


def _has_words(row: ModelRow, words: str) -> bool:
    names = row.stored.names if row.stored is not None else ()
    title = row.entry.title if row.entry is not None else ""
    text = " ".join((row.ref, row.repo, row.kind, row.quantization, row.note, row.place, title, *names)).lower()
    return all(word in text for word in words.lower().split())
