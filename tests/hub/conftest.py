"""A hub on loopback, a cache of its own, and small models to fetch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from localllm.hub import RepoRef
from localllm.hub.pulled import Pulled, PullOptions
from localllm.hub.repo_files import pull_repo
from localllm.hub.transfer import Patience
from tests.hub.local_hub import LocalHub

REPO = "org/tiny-GGUF"
QUICK = Patience(n_tries=3, first_wait_s=0.01, max_wait_s=0.02)


def noise(n_bytes: int, seed: int = 0) -> bytes:
    """Return bytes that begin like a GGUF file."""
    return b"GGUF" + np.random.default_rng(seed).bytes(n_bytes - 4)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    # Nothing but loopback, and no proxy of the machine in between.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with LocalHub() as server:
        yield server


@dataclass
class Place:
    """A hub and a cache, and pulling from one into the other in this process."""

    hub: LocalHub
    cache: Path
    notes: list[str]

    @property
    def options(self) -> PullOptions:
        return PullOptions(self.hub.endpoint, self.cache, self.cache, on_note=self.notes.append, patience=QUICK)

    def pull(self, ref: RepoRef | None = None) -> Pulled:
        return pull_repo(ref or RepoRef(REPO), self.options)

    @property
    def snapshots(self) -> list[Path]:
        """Everything that other programs would take for a model."""
        return sorted(path for path in self.cache.glob("*/snapshots/*/**/*") if not path.is_dir())

    @property
    def incomplete(self) -> list[Path]:
        return sorted(self.cache.glob("*/blobs/*.incomplete"))


@pytest.fixture
def place(hub: LocalHub, tmp_path: Path) -> Place:
    return Place(hub, tmp_path / "cache", [])
