"""Taking a file into our own folder: as a link, as a copy, or moved there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

from localllm import paths
from localllm.errors import ModelNotFound, RequestError
from localllm.gguf import ModelShape, printable, read_header
from localllm.gguf.new_file import check_room, new_file
from localllm.hub.file_names import shard_of
from localllm.hub.notes import note_path, write_note
from localllm.partial_files import sync_folder, unlink
from localllm.store.inventory import Inventory
from localllm.store.models import Place, StoredModel
from localllm.store.names import stem_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}")
_CHUNK_BYTES = 4 << 20

OnProgress = Callable[[int, int], None]
"""Bytes that are copied, and bytes in all."""


class How(StrEnum):
    """What becomes of the file that is imported."""

    LINK = "link"
    COPY = "copy"
    MOVE = "move"


def import_model(source: Path, name: str | None, how: How, on_progress: OnProgress) -> StoredModel:
    """Take a model into our own folder, under a name that from then on means it.

    The header is read first: what is no model, or misses a part, is refused. A split model comes with all its parts.

    Args:
        source: the file; of a split model, the first part.
        name: None: that of the file.
        how: a link needs no room, and breaks when the file goes away.
        on_progress: called while bytes are copied.

    Raises:
        ModelError: there is no such file, or it is no sound model.
        RequestError: the name is taken, or none; or a file cannot be written.
        NotEnoughDisk: there is no room for a copy.
    """
    header = read_header(source)
    ModelShape.from_header(header)
    parts = [part.absolute() for part in header.parts]
    if how is How.MOVE and any(part.is_symlink() for part in parts):
        raise RequestError(f"{printable(str(source), 200)} is a link.", hint="Import it with --link or --copy.")
    stem = _checked(re.sub(r"[^A-Za-z0-9._-]+", "-", stem_of(source)).lstrip("._-") if name is None else name)
    folder = paths.ensure(paths.models_dir())
    targets = [folder / _file_name(stem, part) for part in parts]
    _check_is_free(stem, targets)
    for target in targets:
        if target.is_symlink():
            # To a file that is gone, since the name is free.
            unlink(target)
    if how is How.COPY or (how is How.MOVE and parts[0].stat().st_dev != folder.stat().st_dev):
        check_room(targets[0], header.n_bytes)
    _bring_all(parts, targets, how, _Copier(header.n_bytes, on_progress))
    sync_folder(folder)
    left = [part for part in parts if not unlink(part)] if how is How.MOVE else []
    if left:
        raise RequestError(
            f"{stem} is imported; {printable(str(left[0]), 400)} could not be deleted.", hint="Delete it yourself."
        )
    found = next((model for model in Inventory().shelf(Place.OWN).models if model.path == targets[0]), None)
    if found is None:
        raise ModelNotFound(f"{stem} was imported, and is gone.", hint="Import it again.")
    return found


def _bring_all(parts: Sequence[Path], targets: Sequence[Path], how: How, copier: _Copier) -> None:
    """Bring in all parts, or none; no source is deleted yet."""
    made: list[Path] = []
    try:
        for part, target in zip(parts, targets, strict=True):
            digest = _bring(part, target, how, copier)
            made.append(target)
            write_note(target, {"imported_from": str(part), "how": str(how), **({"sha256": digest} if digest else {})})
    except OSError as error:
        _undo(made)
        hint = "Make a copy with --copy." if how is How.LINK else "Check the rights of both folders."
        raise RequestError(f"Cannot import: {error.strerror or type(error).__name__}.", hint=hint) from error
    except BaseException:
        _undo(made)
        raise


def _bring(part: Path, target: Path, how: How, copier: _Copier) -> str | None:
    """Bring in one file; return its SHA-256 if it was read for that."""
    if how is How.LINK:
        target.symlink_to(part)
        return None
    if how is How.MOVE:
        try:
            # A second name for the same file: its first one goes when all parts are here.
            os.link(part, target)
        except OSError:
            return copier.copy(part, target)
        return None
    return copier.copy(part, target)


def _undo(targets: Sequence[Path]) -> None:
    for target in targets:
        unlink(target)
        unlink(note_path(target))


class _Copier:
    """Copies files, and counts over all of them."""

    def __init__(self, n_bytes: int, on_progress: OnProgress) -> None:
        self._n_bytes = n_bytes
        self._n_done = 0
        self._on_progress = on_progress

    def copy(self, source: Path, target: Path) -> str:
        """Copy a file, which appears when it is whole; return its SHA-256."""
        digest = hashlib.sha256()
        with source.open("rb") as old, new_file(target, source.stat().st_size) as new:
            while chunk := old.read(_CHUNK_BYTES):
                new.write(chunk)
                digest.update(chunk)
                self._n_done += len(chunk)
                self._on_progress(self._n_done, self._n_bytes)
        return digest.hexdigest()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        hint = "Use letters, digits and . _ - in it, and no ending; give one with --name."
        raise RequestError(f"{printable(name)!r} is no name for a model.", hint=hint)
    return name


def _file_name(stem: str, part: Path) -> str:
    shard = shard_of(part.name)
    return f"{stem}-{shard.index:05d}-of-{shard.count:05d}.gguf" if shard else f"{stem}.gguf"


def _check_is_free(stem: str, targets: Sequence[Path]) -> None:
    inventory = Inventory()
    models = inventory.find(stem, (Place.DEMO, Place.OWN))
    taken = next((target for target in targets if target.exists()), models[0].path if models else None)
    if taken is not None:
        message = f"{stem} is the name of another model: {printable(str(taken), 400)}"
        raise RequestError(message, hint="Choose another one with --name.")
