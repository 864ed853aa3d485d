"""What every test gets: a home of its own, and no settings from the machine it runs on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.store.layouts import HubCache, Ollama

# A shell starts what is in its background with Ctrl-C ignored, and so would be every program that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary LOCALLLM_HOME, no other LOCALLLM_ variable but the tests' own, and no models of other programs."""
    for name in [name for name in os.environ if name.startswith("LOCALLLM_")]:
        if not name.startswith("LOCALLLM_TEST_"):
            monkeypatch.delenv(name)
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LOCALLLM_HOME", str(path))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(path / "huggingface"))
    monkeypatch.setenv("OLLAMA_MODELS", str(path / "ollama"))
    monkeypatch.setattr("localllm.store.lm_studio._HOMES", ("localllm-tests-have-no-lm-studio",))
    monkeypatch.setattr("localllm.store.lm_studio._POINTER", "localllm-tests-have-no-lm-studio-pointer")
    return path


@pytest.fixture
def no_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model is not installed."""
    monkeypatch.setattr("localllm.store.demo.DEMO_PACKAGE", "no_such_package")


@pytest.fixture
def hub(home: Path) -> HubCache:
    """Hugging Face's cache, empty."""
    return HubCache(home / "huggingface" / "hub")


@pytest.fixture
def ollama(home: Path) -> Ollama:
    """Ollama's folder, empty."""
    return Ollama(home / "ollama")


@pytest.fixture
def own(home: Path) -> Path:
    """Our own folder of models; it need not exist."""
    return home / "data" / "models"
