"""Deleting models from Hugging Face's cache: links first go by name, then blobs that nothing else links to."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from localllm.store.huggingface_cache import read_ref
from localllm.store.models import StoredModel


def files_of(models: Sequence[StoredModel]) -> list[Path]:
    """Return what to delete: the same file in all snapshots that share it, and blobs that nothing else needs.

    The blobs come first, since a link to nothing is no model any more.
    """
    links: set[Path] = set()
    for model in models:
        repo = _repo_folder(model)
        for file in model.files:
            name, target = file.path.relative_to(_snapshot(model)), os.path.realpath(file.path)
            same = (folder / name for folder in _folders(repo / "snapshots"))
            links.update(path for path in same if os.path.realpath(path) == target)
    blobs: list[Path] = []
    for repo in dict.fromkeys(map(_repo_folder, models)):
        for blob, linked in _links(repo).items():
            if blob.parent == repo / "blobs" and linked <= links:
                blobs.append(blob)
    return [*blobs, *sorted(links)]


def tidy(model: StoredModel) -> None:
    """Delete what means nothing any more: links to nothing, empty snapshots, references to them, empty folders."""
    repo = _repo_folder(model)
    for path in _files(repo / "snapshots"):
        if path.is_symlink() and not path.exists():
            with contextlib.suppress(OSError):
                path.unlink()
    _delete_empty_folders(repo / "snapshots")
    for ref in list(_files(repo / "refs")):
        commit = read_ref(ref)
        if commit is not None and not (repo / "snapshots" / commit).exists():
            with contextlib.suppress(OSError):
                ref.unlink()
    if not _folders(repo / "snapshots"):
        shutil.rmtree(repo / ".no_exist", ignore_errors=True)
    _delete_empty_folders(repo)
    with contextlib.suppress(OSError):
        repo.rmdir()


def _repo_folder(model: StoredModel) -> Path:
    return model.root / model.path.relative_to(model.root).parts[0]


def _snapshot(model: StoredModel) -> Path:
    return model.root.joinpath(*model.path.relative_to(model.root).parts[:3])


def _links(repo: Path) -> dict[Path, set[Path]]:
    """Return what each blob is called in all snapshots of a repository."""
    real = Path(os.path.realpath(repo))
    found: dict[Path, set[Path]] = defaultdict(set)
    for path in _files(repo / "snapshots"):
        if path.is_symlink():
            target = Path(os.path.realpath(path))
            inside = target.is_relative_to(real)
            found[repo / target.relative_to(real) if inside else target].add(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here, name) for name in names)


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except OSError:
        return []


def _delete_empty_folders(folder: Path) -> None:
    for here, _, _ in os.walk(folder, topdown=False):
        if here != str(folder):
            with contextlib.suppress(OSError):
                os.rmdir(here)
