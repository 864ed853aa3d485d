"""A store in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.conversations import ConversationStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a store is."""
    return tmp_path / "data" / "conversations.db"


@pytest.fixture
def store(file: Path) -> Iterator[ConversationStore]:
    """An empty store."""
    opened = ConversationStore.open(file)
    yield opened
    opened.close()
