"""What a model may be called, from the name of its file. The first name says it best."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from localllm.hub.file_names import quantization_of, shard_of
from localllm.hub.refs import RepoRef

_DIGEST = re.compile(r"sha256[-:][0-9a-fA-F]{64}")
_N_DIGEST_SHOWN = len("sha256-") + 12


def stem_of(path: Path) -> str:
    """Return the name of a model's first file, without its ending, nor which part it is."""
    shard = shard_of(path.name)
    return shard.head if shard else path.stem


def own_name(path: Path) -> str | None:
    """Return what a file's name says without its ending; None where it is only a digest, as of Ollama's blobs."""
    return None if _DIGEST.fullmatch(path.name) else path.stem


def shown_name(path: Path) -> str:
    """Return the name of a file for a table; of a digest only the beginning."""
    return path.name if own_name(path) is not None else f"{path.name[:_N_DIGEST_SHOWN]}…"


def file_names(path: Path) -> tuple[str, ...]:
    """Return the names of a model by its file alone: "x-Q4_K_M", "x:Q4_K_M", "x", and "x-Q4_K_M.gguf"."""
    stem = stem_of(path)
    tag = quantization_of(stem)
    base = re.sub(rf"[-._]?(?:UD-)?{re.escape(tag)}$", "", stem, flags=re.IGNORECASE) if tag else ""
    return distinct([stem, *([f"{base}:{tag}", base] if base else []), path.name])


def repo_names(repo: str, file: str, revisions: Iterable[str | None]) -> tuple[str, ...]:
    """Return the names of a file of a repository, by each of the revisions that it belongs to.

    Args:
        repo: "org/name".
        file: its path in the repository, with "/" between folders.
        revisions: branches, tags, commits; None is the default branch.
    """
    tag = quantization_of(file)
    refs = [
        ref
        for revision in revisions
        for ref in (
            *([RepoRef(repo, tag, revision=revision)] if tag else []),
            RepoRef(repo, file=file, revision=revision),
            RepoRef(repo, revision=revision),
        )
    ]
    return distinct(map(str, refs))


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return names in their order, each once."""
    return tuple(dict.fromkeys(names))
