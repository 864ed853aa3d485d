"""How a model is fetched, and what is known of it then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from localllm.hub.meter import OnProgress
from localllm.hub.transfer import Patience

N_AT_ONCE = 3
"""Files of a split model that come at the same time."""


@dataclass(frozen=True)
class Pulled:
    """A model that is on this disk now."""

    path: Path
    """The file, or the first part."""
    paths: tuple[Path, ...]
    """All parts."""
    n_bytes: int
    n_fetched_bytes: int
    """What came over the network this time; 0: it was there."""
    commit: str | None = None
    """Of the repository."""


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class PullOptions:
    """How files are fetched, and who hears of it."""

    endpoint: str | None = None
    """The hub; None: HF_ENDPOINT, or Hugging Face's."""
    cache: Path | None = None
    """None: huggingface_hub's own."""
    folder: Path | None = None
    """Of files from other places than hubs; None: `paths.models_dir()`."""
    on_progress: OnProgress = _nothing
    on_note: Callable[[str], None] = _nothing
    """Called with a line about what is unusual: another process fetches the same; the copy on this disk is used."""
    on_partial: Callable[[Path], None] = _nothing
    """Called with where the bytes of a file lie until all are there, on any thread."""
    stop: Event | None = None
    """Set by whoever no longer wants it, which ends in `transfer.Stopped`; what came is kept."""
    patience: Patience = field(default_factory=Patience)
