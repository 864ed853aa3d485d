"""The scripted server as a fixture, and a remote that is named for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localllm.remotes import Remote, RemoteClient, Remotes
from tests.remotes.scripted import Scripted, running


@pytest.fixture
def server() -> Iterator[Scripted]:
    with running() as made:
        yield made


@pytest.fixture
def lab(server: Scripted) -> Remote:
    """The server as @lab, with little patience."""
    remote = Remote("lab", server.url, silence_s=0.3)
    Remotes().add(remote)
    return remote


@pytest.fixture
def client(lab: Remote) -> RemoteClient:
    return RemoteClient(lab, note_s=0.05)
