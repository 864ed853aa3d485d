"""Deleting models: first a plan that says what goes and what that frees, then the deed.

What is not ours is only deleted when its place was named: a file of another program, or of the user's own folder. The
original of an import is never deleted, only the link to it.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import RequestError
from localllm.gguf import printable
from localllm.hub.notes import note_path
from localllm.store import huggingface_removal, ollama_removal
from localllm.store.demo import DEMO_PACKAGE
from localllm.store.models import Place, StoredModel

FREELY = (Place.OWN, Place.HUGGING_FACE)
"""Places whose models are deleted when asked for."""
OWNERS = {Place.FOLDER: "a folder of yours", Place.OLLAMA: "Ollama", Place.LM_STUDIO: "LM Studio"}
"""To whom the others belong."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What deleting some models means."""

    models: tuple[StoredModel, ...]
    files: tuple[Path, ...]
    """What is deleted, in order."""
    freed_bytes: int
    """What the disk has more of afterwards: a file of several names counts once, and only if all of them go."""
    remarks: tuple[str, ...]
    """What stays, and why."""


def plan_removal(models: Sequence[StoredModel], forced: Iterable[Place] = ()) -> Removal:
    """Say what deleting these models means.

    Args:
        models: what is to go.
        forced: places of others whose models may be deleted.

    Raises:
        RequestError: a model belongs to somebody else, or to a package.
    """
    models = tuple(dict.fromkeys(models))
    for model in models:
        _check_may_go(model, tuple(forced))
    files: list[Path] = []
    remarks: list[str] = []
    for place in dict.fromkeys(model.place for model in models):
        here = [model for model in models if model.place is place]
        match place:
            case Place.HUGGING_FACE:
                files += huggingface_removal.files_of(here)
            case Place.OLLAMA:
                found, notes = ollama_removal.files_of(here)
                files += found
                remarks += notes
            case _:
                files += [file.path for model in here for file in model.files]
                files += [note for model in here for file in model.files if (note := note_path(file.path)).is_file()]
                remarks += _originals(here)
    files = list(dict.fromkeys(files))
    return Removal(models, tuple(files), _freed_bytes(files), tuple(remarks))


def remove(removal: Removal) -> None:
    """Delete what was planned, and the folders and references that are empty then.

    Raises:
        RequestError: something could not be deleted; the rest is.
    """
    failed = [(path, error) for path in removal.files if (error := _delete(path))]
    for model in removal.models:
        match model.place:
            case Place.HUGGING_FACE:
                huggingface_removal.tidy(model)
            case Place.OLLAMA:
                prune(model.root / "manifests")
            case _:
                prune_up(model.path.parent, model.root)
    if failed:
        path, error = failed[0]
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        message = f"Cannot delete {printable(str(path), 200)}: {error.strerror or type(error).__name__}{more}."
        raise RequestError(message, hint="Check its rights; what could be deleted is.")


def prune(folder: Path) -> None:
    """Delete the empty folders below a folder."""
    for here, _, _ in os.walk(folder, topdown=False):
        if here != str(folder):
            _delete_empty(Path(here))


def prune_up(folder: Path, root: Path) -> None:
    """Delete a folder, and those above it up to `root`, which stays, while they are empty."""
    while folder != root and folder.is_relative_to(root) and _delete_empty(folder):
        folder = folder.parent


def _check_may_go(model: StoredModel, forced: Sequence[Place]) -> None:
    name = printable(model.names[0], 200)
    if model.place is Place.DEMO:
        package = DEMO_PACKAGE.replace("_", "-")
        raise RequestError(f"{name} belongs to the package {package}.", hint=f"Run: pip uninstall {package}")
    if model.place in FREELY or model.place in forced:
        return
    own_way = f"Delete it there (ollama rm {name}), or add" if model.place is Place.OLLAMA else "To delete it, add"
    raise RequestError(f"{name} belongs to {OWNERS[model.place]}.", hint=f"{own_way} --force {model.place}.")


def _originals(models: Sequence[StoredModel]) -> list[str]:
    links = [file.path for model in models for file in model.files if file.path.is_symlink()]
    return [f"The original stays: {printable(os.path.realpath(path), 400)}" for path in links]


def _freed_bytes(files: Iterable[Path]) -> int:
    """Return the bytes of files that have no other name left when these are gone."""
    names: Counter[tuple[int, int]] = Counter()
    statuses: dict[tuple[int, int], os.stat_result] = {}
    for path in files:
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            key = (status.st_dev, status.st_ino)
            names[key] += 1
            statuses[key] = status
    return sum(status.st_size for key, status in statuses.items() if names[key] >= status.st_nlink)


def _delete(path: Path) -> OSError | None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return error
    return None


def _delete_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
