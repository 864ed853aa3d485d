"""Hugging Face's cache, which `localllm pull` and other tools share.

    models--ORG--NAME/refs/main                  the commit that a branch or tag was at
    models--ORG--NAME/snapshots/COMMIT/x.gguf    a link to ../../blobs/…; where there are no links, the file itself
    models--ORG--NAME/blobs/SHA256               a large file; a small one is called by its git hash, of 40 digits

Source: huggingface_hub's guide "Understand caching", and its constants.py for the variables. That package is not
imported, since it costs more than all that is done here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from localllm.hub.file_names import quantization_of
from localllm.store.models import Place, StoredFile, StoredModel
from localllm.store.names import repo_names
from localllm.store.scan import Found, entries, find_models, is_folder

DEFAULT_BRANCH = "main"
N_COMMIT_SHOWN = 12
"""Digits that name a commit."""
_PREFIX = "models--"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INCOMPLETE = ".incomplete"
_MAX_REF_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit of a repository, as far as it is here."""

    folder: Path
    revisions: tuple[str | None, ...]
    """The branches and tags that are at it, None the default one; for a commit without any, its number."""


def cache_folder() -> Path:
    """Return the cache's folder; it need not exist."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or os.path.join(home, "hub")
    return Path(os.path.abspath(os.path.expanduser(os.path.expandvars(chosen))))


def cached_models(root: Path) -> Iterator[StoredModel]:
    """Yield the models of the cache. A file that several commits share is one model, under its newest name."""
    for entry in entries(root):
        repo = _repo_of(entry.name)
        if repo is not None:
            yield from _models_of(root, repo, root / entry.name)


def snapshots(folder: Path) -> list[Snapshot]:
    """Return the snapshots of a repository: the default branch, other branches and tags, commits without any."""
    by_commit: dict[str, list[str | None]] = {}
    for name, commit in _refs(folder / "refs"):
        by_commit.setdefault(commit, []).extend([None, name] if name == DEFAULT_BRANCH else [name])
    found = [
        Snapshot(path, tuple(by_commit.get(path.name, [])) or (path.name[:N_COMMIT_SHOWN],))
        for path in sorted(_folders(folder / "snapshots"), key=_modified, reverse=True)
    ]
    return sorted(found, key=lambda one: (None not in one.revisions, one.folder.name not in by_commit))


def read_ref(path: Path) -> str | None:
    """Return the commit that a branch or tag is at; None if that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_REF_BYTES).decode().strip()
    except (OSError, ValueError):
        return None


def _models_of(root: Path, repo: str, folder: Path) -> Iterator[StoredModel]:
    seen: set[tuple[str, tuple[tuple[int, int], ...]]] = set()
    for snapshot in snapshots(folder):
        for found in find_models(snapshot.folder):
            name = found[0].path.relative_to(snapshot.folder).as_posix()
            key = (name, tuple(file.identity for file in found))
            files = None if key in seen else _with_digests(found)
            if files is not None:
                seen.add(key)
                names = repo_names(repo, name, [*snapshot.revisions, snapshot.folder.name])
                yield StoredModel(Place.HUGGING_FACE, root, files, names, quantization_of(name))


def _repo_of(folder: str) -> str | None:
    """Return the repository that a folder of the cache belongs to; None if it holds no model."""
    if not folder.startswith(_PREFIX):
        return None
    return "/".join(folder.removeprefix(_PREFIX).split("--")) or None


def _refs(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the names of branches and tags, and the commits that they are at; a name may have folders ("pr/1")."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        for entry in entries(here):
            path = here / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif (commit := read_ref(path)) is not None:
                yield path.relative_to(folder).as_posix(), commit


def _folders(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in entries(folder) if not entry.name.startswith(".") and is_folder(entry)]


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _blob_name(file: StoredFile) -> str:
    """Return what a file's blob is called; empty where the file itself lies there."""
    try:
        return os.path.basename(os.readlink(file.path))
    except OSError:
        return ""


def _with_digests(files: Found) -> Found | None:
    """Add the digests that the names of the blobs say; None if a blob is not whole yet."""
    names = [_blob_name(file) for file in files]
    if any(name.endswith(_INCOMPLETE) for name in names):
        return None
    return tuple(
        replace(file, sha256=name if _SHA256.fullmatch(name) else None) for file, name in zip(files, names, strict=True)
    )
