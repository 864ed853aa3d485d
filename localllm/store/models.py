"""What the store hands on: a model that lies on this disk, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Place(StrEnum):
    """Where models lie, in the order in which a name is looked up."""

    DEMO = "demo"
    """The package of the demo model."""
    OWN = "localllm"
    """Downloads by URL, and imports."""
    FOLDER = "folder"
    """A folder of the setting `model_dirs`."""
    HUGGING_FACE = "huggingface"
    """The cache that `localllm pull` and Hugging Face's own tools share."""
    OLLAMA = "ollama"
    LM_STUDIO = "lmstudio"


OURS = (Place.DEMO, Place.OWN, Place.FOLDER)
"""Places whose names go before the catalog's."""
OTHERS = (Place.HUGGING_FACE, Place.OLLAMA, Place.LM_STUDIO)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a model."""

    path: Path
    """As it is called where it lies; a link stays a link, since its target may have no name of its own."""
    n_bytes: int
    mtime_ns: int
    identity: tuple[int, int]
    """Device and inode: two files that are one on the disk have the same."""
    sha256: str | None = None
    """64 hexadecimal digits, where the place knows them."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on this disk. Its files are whole as far as their names say; nothing was read."""

    place: Place
    root: Path
    """The place's own folder."""
    files: tuple[StoredFile, ...]
    """One, unless the model is split; in order."""
    names: tuple[str, ...]
    """All that it is called there; the first says it best."""
    quantization: str | None
    """As its name says it, such as "Q4_K_M"."""

    @property
    def path(self) -> Path:
        """The file to open."""
        return self.files[0].path

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def disk_bytes(files: Iterable[StoredFile]) -> int:
    """Return what files take on the disk, in bytes; those that are one on the disk count once."""
    return sum({file.identity: file.n_bytes for file in files}.values())
