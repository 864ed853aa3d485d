"""Telling whether the files of models are what they were: by their digest where one is known, else by the header.

A header says where every tensor ends, so a file that was cut is found; weights that were overwritten are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from localllm.errors import LocalLLMError
from localllm.gguf import read_header
from localllm.hub.partial import file_sum
from localllm.store.models import Place, StoredFile, StoredModel

OnProgress = Callable[[int, int], None]
"""Bytes that are read, and bytes in all."""


class Check(StrEnum):
    """How a model was looked at."""

    SHA256 = "sha256"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one model now."""

    model: StoredModel
    check: Check
    problem: str | None = None
    """What is wrong with it; None if nothing is."""
    hint: str | None = None

    @property
    def is_ok(self) -> bool:
        return self.problem is None


def verify(models: Sequence[StoredModel], on_progress: OnProgress) -> Iterator[Verdict]:
    """Yield a verdict on each model. Files that are one on the disk are read once."""
    reader = _Reader(models, on_progress)
    for model in models:
        yield _verdict(model, reader)


def _verdict(model: StoredModel, reader: _Reader) -> Verdict:
    check = Check.SHA256 if all(file.sha256 for file in model.files) else Check.HEADER
    try:
        for file in model.files:
            if file.sha256 and reader.digest(file) != file.sha256:
                return Verdict(model, check, f"{file.path.name} has another SHA-256 than its own", _advice(model))
        read_header(model.path)
    except OSError as error:
        return Verdict(model, check, f"cannot be read: {error.strerror or type(error).__name__}", "Check the disk.")
    except LocalLLMError as error:
        return Verdict(model, check, error.message, _advice(model))
    return Verdict(model, check)


def _advice(model: StoredModel) -> str:
    name = model.names[0]
    match model.place:
        case Place.HUGGING_FACE:
            return f"Delete it with localllm rm {name}, then fetch it again with localllm pull {name}."
        case Place.OLLAMA:
            return f"Fetch it again with ollama rm {name} and ollama pull {name}."
        case Place.LM_STUDIO:
            return "Delete and download it again in LM Studio."
        case _:
            return "Download it again, or restore it from a backup."


class _Reader:
    """Reads files for their digests, and says how far it is."""

    def __init__(self, models: Sequence[StoredModel], on_progress: OnProgress) -> None:
        waiting = {file.identity: file.n_bytes for model in models for file in model.files if file.sha256}
        self._n_bytes = sum(waiting.values())
        self._n_done = 0
        self._on_progress = on_progress
        self._known: dict[tuple[int, int], str] = {}

    def digest(self, file: StoredFile) -> str:
        if file.identity not in self._known:
            self._known[file.identity] = file_sum(file.path, hashlib.sha256, on_bytes=self._count)
        return self._known[file.identity]

    def _count(self, n_bytes: int) -> None:
        self._n_done += n_bytes
        self._on_progress(self._n_done, self._n_bytes)
