"""Every place of models, empty and temporary."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def lm_studio(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LM Studio's folder of models, in a home directory of its own."""
    user = home / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("USERPROFILE", str(user))
    monkeypatch.setattr("localllm.store.lm_studio._HOMES", (".lmstudio", ".cache/lm-studio"))
    monkeypatch.setattr("localllm.store.lm_studio._POINTER", ".lmstudio-home-pointer")
    return user / ".lmstudio" / "models"
