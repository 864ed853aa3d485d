"""Every place of models, empty and temporary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store.layouts import HubCache, Ollama


@pytest.fixture
def no_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model is not installed."""
    monkeypatch.setattr("localllm.store.demo.DEMO_PACKAGE", "no_such_package")


@pytest.fixture
def hub(home: Path) -> HubCache:
    return HubCache(home / "huggingface" / "hub")


@pytest.fixture
def ollama(home: Path) -> Ollama:
    return Ollama(home / "ollama")


@pytest.fixture
def own(home: Path) -> Path:
    return home / "data" / "models"


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
