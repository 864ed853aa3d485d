"""Finding models in a folder, whatever else is in it: other files, links that lead nowhere or in circles, parts."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from localllm.hub.file_names import Shard, is_model, shard_of
from localllm.store.models import StoredFile

MAX_DEPTH = 8
"""Folders below the first one."""
MAX_ENTRIES = 100_000
"""Of a whole folder, so that one that holds a disk does not take minutes."""

Found = tuple[StoredFile, ...]
"""The files of a model, in order."""


def find_models(root: Path) -> Iterator[Found]:
    """Yield the models in a folder and those below it, each with all its parts.

    Left out: hidden files, what is not whole (a link to nothing, a split model without all of its parts), and what
    cannot be read or vanishes meanwhile.
    """
    whole: list[Found] = []
    parts: dict[tuple[str, int], dict[int, StoredFile]] = defaultdict(dict)
    for file in _files(root):
        shard = shard_of(str(file.path))
        if shard is None:
            whole.append((file,))
        elif _is_possible(shard):
            parts[shard.head, shard.count][shard.index] = file
    whole += [_in_order(found) for (_, count), found in parts.items() if len(found) == count]
    yield from sorted(whole, key=lambda files: files[0].path)


def stored_file(path: Path, sha256: str | None = None) -> StoredFile | None:
    """Return what the system says of a file; None unless it is a regular one, with something in it."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        return None
    return StoredFile(path, status.st_size, status.st_mtime_ns, (status.st_dev, status.st_ino), sha256)


def entries(folder: Path) -> Sequence[os.DirEntry[str]]:
    """Return what is in a folder, by name; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (OSError, ValueError):
        return ()


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _files(root: Path) -> Iterator[StoredFile]:
    left = MAX_ENTRIES
    seen: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    while waiting and left > 0:
        folder, depth = waiting.pop()
        if not _is_new(folder, seen):
            continue
        for entry in entries(folder)[:left]:
            left -= 1
            if entry.name.startswith("."):
                continue
            path = folder / entry.name
            if entry.name.lower().endswith(".gguf") and is_model(entry.name) and (file := stored_file(path)):
                yield file
            elif depth < MAX_DEPTH and is_folder(entry):
                waiting.append((path, depth + 1))


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Tell whether a folder was not yet seen, under this name or another."""
    try:
        status = folder.stat()
    except (OSError, ValueError):
        return False
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return False
    seen.add(identity)
    return True


def _is_possible(shard: Shard) -> bool:
    return 1 <= shard.index <= shard.count


def _in_order(parts: dict[int, StoredFile]) -> Found:
    return tuple(parts[index] for index in sorted(parts))
