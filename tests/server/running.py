"""A server on a free port of this machine, on a thread of its own, with models of the test's choice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from localllm.hardware.types import LoadOptions
from localllm.llm import LLM
from localllm.runtime import open_backend
from localllm.server.app import create_app
from localllm.server.manager import ModelEntry, ModelManager
from localllm.server.serving import bound_socket
from localllm.server.settings import ServerSettings
from tests.scripted_backend import ScriptedBackend

WAIT_S = 30.0


@dataclass
class Running:
    """A server that listens."""

    url: str
    manager: ModelManager
    http: httpx.Client

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)


@contextmanager
def serving(
    entries: list[ModelEntry], open_model: Callable[[ModelEntry, Callable[[float], None]], LLM], **settings: Any
) -> Iterator[Running]:
    """Serve `entries` for as long as the block runs."""
    chosen = ServerSettings(port=0, **settings)
    manager = ModelManager(entries, open_model)
    sock = bound_socket(chosen)
    config = uvicorn.Config(create_app(chosen, manager), log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=WAIT_S) as http:
            http.get("/health").raise_for_status()
            yield Running(url, manager, http)
    finally:
        server.should_exit = True
        thread.join(WAIT_S)


@contextmanager
def serving_scripted(models: Mapping[str, ScriptedBackend], **settings: Any) -> Iterator[Running]:
    """Serve scripted models by name; their files do not exist."""
    entries = [ModelEntry(name=name, path=Path(f"/nowhere/{name}.gguf")) for name in models]

    def open_model(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
        models[entry.name].closed = False
        return LLM(models[entry.name])

    with serving(entries, open_model, **settings) as running:
        yield running


@contextmanager
def serving_files(paths: Mapping[str, Path], n_ctx: int | None = None, **settings: Any) -> Iterator[Running]:
    """Serve real files by name, each in a worker process of its own."""
    options = LoadOptions(n_ctx=n_ctx)
    entries = [ModelEntry(name=name, path=path, options=options) for name, path in paths.items()]

    def open_model(entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
        return LLM(open_backend(entry.path, entry.options, in_process=False, on_progress=on_progress))

    with serving(entries, open_model, **settings) as running:
        yield running
