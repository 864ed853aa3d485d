"""Our own folder, where downloads by URL and imports lie, and the folders of the setting `model_dirs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from localllm.hub.file_names import quantization_of
from localllm.hub.notes import read_note
from localllm.store.models import Place, StoredModel
from localllm.store.names import distinct, file_names
from localllm.store.scan import find_models

_SHA256 = re.compile(r"[0-9a-f]{64}")


def own_models(root: Path) -> Iterator[StoredModel]:
    """Yield the models of our own folder, by the names of their files; a download also answers to its URL."""
    for model in folder_models(root, Place.OWN):
        notes = [read_note(file.path) for file in model.files]
        files = tuple(
            replace(file, sha256=_digest(note.get("sha256"))) for file, note in zip(model.files, notes, strict=True)
        )
        url = notes[0].get("url")
        names = distinct([*model.names, *([url] if isinstance(url, str) else [])])
        yield replace(model, files=files, names=names)


def folder_models(root: Path, place: Place = Place.FOLDER) -> Iterator[StoredModel]:
    """Yield the models of a folder of the user's."""
    for files in find_models(root):
        path = files[0].path
        yield StoredModel(place, root, files, file_names(path), quantization_of(path.name))


def _digest(noted: object) -> str | None:
    return noted if isinstance(noted, str) and _SHA256.fullmatch(noted) else None
