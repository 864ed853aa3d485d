"""Where the catalog's names come in: the one module that asks for them."""

from __future__ import annotations

from localllm.hub.refs import NameRef, RepoRef


def catalog_ref(ref: NameRef) -> RepoRef | None:
    """Return the repository that a short name stands for; None if the catalog has no such name."""
    return None


def catalog_names() -> tuple[str, ...]:
    """Return all names of the catalog."""
    return ()
