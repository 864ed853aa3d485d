"""A model that is served, and what state it is in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from localllm.errors import EngineClosed, LocalLLMError
from localllm.hardware.types import LoadOptions
from localllm.llm.model import LLM

State = Literal["unloaded", "loading", "loaded", "failed"]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model that may be asked for."""

    name: str
    path: Path
    aliases: tuple[str, ...] = ()
    options: LoadOptions = field(default_factory=LoadOptions)
    pinned: bool = False

    @property
    def file_bytes(self) -> int:
        """Size of the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


class ServedModel:
    """A model and its state. The manager changes it; everybody else reads."""

    def __init__(self, entry: ModelEntry) -> None:
        self.entry = entry
        self.name = entry.name
        self.pinned = entry.pinned
        self.llm: LLM | None = None
        self.loading: asyncio.Task[None] | None = None
        self.error: LocalLLMError | None = None
        """Why the last load failed."""
        self.failed_s = 0.0
        """When it did (time.monotonic)."""
        self.n_leases = 0
        """Requests that use it or wait for it to be loaded."""
        self.last_used_s = time.monotonic()
        self.created_s = time.time()
        self.keep_s: float | None = None
        """How long it stays loaded without requests, where a client has said so; None: as long as any."""
        self.progress = 0.0
        """The loaded share, 0 to 1."""
        self.is_aborted = False
        """The load that is under way shall end."""
        self.too_large_until_s = 0.0
        """It did not fit even alone: until then (time.monotonic) nobody gives way for it."""
        self.planned_bytes = 0
        """What its last load took; 0 before the first."""
        self._n_takers = 0

    @property
    def is_loaded(self) -> bool:
        return self.llm is not None and self.llm.is_alive

    @property
    def is_in_use(self) -> bool:
        """Whether it is loaded, is being loaded, or somebody waits for it."""
        return self.llm is not None or self.loading is not None or self.n_leases > 0

    @property
    def gives_way(self) -> bool:
        """Whether somebody waits for it to be unloaded: until then there are no new leases."""
        return self._n_takers > 0

    @property
    def state(self) -> State:
        if self.is_loaded:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "failed" if self.has_failed else "unloaded"

    @property
    def has_failed(self) -> bool:
        """Whether the last load failed of itself; it may also have been ended on purpose."""
        return self.error is not None and not isinstance(self.error, EngineClosed)

    @property
    def memory_bytes(self) -> int:
        """What it takes while loaded, as it was planned last; before its first load, the size of its file."""
        return self.planned_bytes or self.entry.file_bytes

    @property
    def loaded(self) -> LLM:
        """The model itself; only under a lease."""
        assert self.llm is not None
        return self.llm

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Give out no new lease while the block runs."""
        self._n_takers += 1
        try:
            yield
        finally:
            self._n_takers -= 1
