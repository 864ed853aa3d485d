"""LM Studio's folder: publisher/repository/file.gguf, as on the hub.

Source: its documentation ("Import models"), and `lms import`, which reads the folder from the key `downloadsFolder`
of settings.json in the program's home.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from localllm.hub.file_names import quantization_of
from localllm.store.models import Place, StoredModel
from localllm.store.names import distinct, file_names, repo_names
from localllm.store.scan import find_models

_POINTER = ".lmstudio-home-pointer"
_HOMES = (".lmstudio", ".cache/lm-studio")
"""Under the user's home; the second until version 0.3.6."""


def lm_studio_folders() -> list[Path]:
    """Return the folders of models that LM Studio may have on this computer; they need not exist."""
    user = Path(os.path.expanduser("~"))
    homes = [*_pointed_at(user / _POINTER), *(user / name for name in _HOMES)]
    found = [folder for home in homes for folder in (*_chosen(home / "settings.json"), home / "models")]
    return list(dict.fromkeys(found))


def lm_studio_models(root: Path) -> Iterator[StoredModel]:
    """Yield the models of one of LM Studio's folders; those that lie elsewhere in it answer to their file's name."""
    for files in find_models(root):
        path = files[0].path
        parts = path.relative_to(root).parts
        names = file_names(path)
        if len(parts) >= 3:
            names = distinct([*repo_names("/".join(parts[:2]), "/".join(parts[2:]), [None]), *names])
        yield StoredModel(Place.LM_STUDIO, root, files, names, quantization_of("/".join(parts)))


def _pointed_at(pointer: Path) -> list[Path]:
    """Return the home that LM Studio wrote down for its tools."""
    try:
        lines = pointer.read_text(encoding="utf-8").strip().splitlines()
    except (OSError, ValueError):
        return []
    return [Path(lines[0].strip())] if lines and "\0" not in lines[0] else []


def _chosen(settings: Path) -> list[Path]:
    """Return the folder that the user has chosen in LM Studio."""
    try:
        found = json.loads(settings.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    folder = found.get("downloadsFolder") if isinstance(found, dict) else None
    return [Path(folder)] if isinstance(folder, str) and folder and "\0" not in folder else []
