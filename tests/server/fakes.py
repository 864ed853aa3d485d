"""Models that load as they are told to, without llama.cpp."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from localllm.errors import LocalLLMError
from localllm.llm import LLM
from localllm.server.manager import ModelEntry, ModelManager
from tests.scripted_backend import Script, ScriptedBackend

MIB = 1 << 20


class FakeBackend(ScriptedBackend):
    """A scripted backend whose worker can die."""

    crashed = False

    @property
    def is_alive(self) -> bool:
        return not (self.closed or self.crashed)


class Loader:
    """An `open_model` that keeps a record.

    Args:
        sizes: planned bytes by name.
        load_s: how long a load takes; progress is reported meanwhile.
        failures: errors that the next loads of a name end in, the first one first.
        scripts: what the models say.
    """

    def __init__(
        self,
        sizes: dict[str, int] | None = None,
        *,
        load_s: float = 0.0,
        failures: dict[str, list[Exception]] | None = None,
        scripts: tuple[Script | str, ...] = ("Hello!",),
    ) -> None:
        self._sizes = sizes or {}
        self.load_s = load_s
        self._failures = failures or {}
        self._scripts = scripts
        self.loads: list[str] = []
        self.backends: dict[str, FakeBackend] = {}
        self.is_loading = threading.Event()

    def __call__(self, entry: ModelEntry, on_progress: Callable[[float], None]) -> LLM:
        self.loads.append(entry.name)
        self.is_loading.set()
        until = time.monotonic() + self.load_s
        while time.monotonic() < until:
            on_progress(0.5)
            time.sleep(0.01)
        if self._failures.get(entry.name):
            raise self._failures[entry.name].pop(0)
        backend = FakeBackend(*self._scripts, memory_bytes=self._sizes.get(entry.name, MIB))
        self.backends[entry.name] = backend
        return LLM(backend)

    def is_open(self, name: str) -> bool:
        """Whether the last model of this name that was opened is still open."""
        return name in self.backends and not self.backends[name].closed


def entries(*names: str, pinned: tuple[str, ...] = ()) -> list[ModelEntry]:
    return [ModelEntry(name=name, path=Path(f"/nowhere/{name}.gguf"), pinned=name in pinned) for name in names]


def make_manager(loader: Loader, *names: str, pinned: tuple[str, ...] = (), **options: object) -> ModelManager:
    return ModelManager(entries(*(names or ("a",)), pinned=pinned), loader, **options)  # type: ignore[arg-type]


class TooLarge(LocalLLMError):
    """An error of the tests' own."""
