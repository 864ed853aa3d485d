"""What every test gets: a home of its own, and no settings from the machine it runs on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary LOCALLLM_HOME, and no other LOCALLLM_ variable but the tests' own."""
    for name in [name for name in os.environ if name.startswith("LOCALLLM_")]:
        if not name.startswith("LOCALLLM_TEST_"):
            monkeypatch.delenv(name)
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LOCALLLM_HOME", str(path))
    return path
