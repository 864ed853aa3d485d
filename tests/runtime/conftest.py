"""Fixtures: the tiny model behind each kind of backend, and a recorder of events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.engine import Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.hardware.types import LoadOptions
from localllm.runtime import Backend, TextControls, open_backend
from localllm.runtime.client import WorkerBackend
from tests.tiny_model import write_tiny_model

OPTIONS = LoadOptions(n_ctx=1024, n_slots=4, n_threads=1, gpu_layers=0)
GREEDY = SamplingParams(temperature=0)
NO_CONTROLS = TextControls()


class Record:
    """A sink that keeps the events and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ended = threading.Event()
        self._started = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, TokenEvent):
            self._started.set()
        if isinstance(event, FinishEvent):
            self._ended.set()
            self._started.set()

    def wait_for_token(self) -> None:
        assert self._started.wait(30)

    def wait(self) -> FinishEvent:
        assert self._ended.wait(60), "no FinishEvent"
        finish = self.events[-1]
        assert isinstance(finish, FinishEvent)
        return finish

    @property
    def tokens(self) -> list[int]:
        return [event.token for event in self.events if isinstance(event, TokenEvent)]

    @property
    def data(self) -> bytes:
        return b"".join(event.piece for event in self.events if isinstance(event, TokenEvent))


def request(*prompt: int, max_tokens: int | None = 8, **fields: object) -> GenerationRequest:
    full = {"prompt": prompt or (39, 72), "max_tokens": max_tokens, "sampling": GREEDY, "ignore_eos": True, **fields}
    return GenerationRequest(**full)  # type: ignore[arg-type]


def generate(backend: Backend, asked: GenerationRequest, controls: TextControls = NO_CONTROLS) -> Record:
    """Run one request to its end."""
    record = Record()
    backend.submit(asked, controls, record)
    record.wait()
    return record


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("runtime") / "tiny.gguf", n_ctx=1024)


@pytest.fixture(scope="session")
def slow_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens take some milliseconds, so that there is a middle of a stream."""
    path = tmp_path_factory.mktemp("runtime") / "slow.gguf"
    return write_tiny_model(path, n_layer=6, n_embd=256, n_head=4, n_head_kv=2, n_ff=1024, n_ctx=8192)


@pytest.fixture(params=["local", "worker"])
def make_backend(request: pytest.FixtureRequest, tiny_path: Path) -> Iterator[Callable[..., Backend]]:
    made: list[Backend] = []

    def make(path: Path = tiny_path, options: LoadOptions = OPTIONS, **arguments: object) -> Backend:
        in_process = request.param == "local"
        made.append(open_backend(path, options, in_process=in_process, **arguments))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture(scope="module", params=["local", "worker"])
def backend(request: pytest.FixtureRequest, tiny_path: Path) -> Iterator[Backend]:
    """One backend for all tests of a module that leave it as it was."""
    backend = open_backend(tiny_path, OPTIONS, in_process=request.param == "local")
    yield backend
    backend.close()


@pytest.fixture
def worker(slow_path: Path) -> Iterator[WorkerBackend]:
    backend = WorkerBackend(slow_path, LoadOptions(n_ctx=8192, n_threads=1, gpu_layers=0))
    yield backend
    backend.close()
