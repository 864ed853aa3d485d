"""Where the catalog's names come in: the one module that asks for them."""

from __future__ import annotations

from localllm.errors import ModelNotFound
from localllm.hub.catalog import load_catalog, repo_ref
from localllm.hub.refs import NameRef, RepoRef


def catalog_ref(ref: NameRef) -> RepoRef | None:
    """Return the repository that a short name stands for; None if the catalog has none, or not with this tag."""
    try:
        return repo_ref(ref, is_any_quantization=True)
    except ModelNotFound:
        return None


def catalog_names() -> tuple[str, ...]:
    """Return all names of the catalog."""
    return tuple(load_catalog().entries)
