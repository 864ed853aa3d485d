"""The application in this process, over a scripted model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starlette.testclient import TestClient

from localllm.llm import LLM
from localllm.server.app import create_app
from localllm.server.manager import ModelEntry, ModelManager
from localllm.server.settings import ServerSettings
from tests.scripted_backend import Script, ScriptedBackend


@contextmanager
def client_of(
    settings: ServerSettings | None = None, *, names: Sequence[str] = ("small",), says: Script | str = "Hello."
) -> Iterator[TestClient]:
    """A client of an application that serves models of these names; each says what it is told to."""
    entries = [ModelEntry(name=name, path=Path(f"{name}.gguf")) for name in names]
    manager = ModelManager(entries, lambda entry, on_progress: LLM(ScriptedBackend(says)))
    app = create_app(settings or ServerSettings(), manager)
    with TestClient(app, base_url="http://127.0.0.1:8080") as client:
        yield client
