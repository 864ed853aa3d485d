"""Fixtures of the server's tests."""

from __future__ import annotations

import pytest

from localllm.server import manager as manager_module


@pytest.fixture
def impatient_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that looks often."""
    monkeypatch.setattr(manager_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(manager_module, "_POLL_S", 0.05)
