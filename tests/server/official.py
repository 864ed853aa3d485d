"""What official clients talk to: a server whose model says what it is told to, or has the real demo model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from localllm.engine.events import Timings, Usage
from localllm.hardware.types import LoadOptions
from localllm.llm import LLM, ChatEvent, Done, Progress
from localllm.llm.options import parse_options
from localllm.runtime import open_backend
from localllm.server.manager import ModelEntry, ModelManager
from tests.demo_model import require_demo_model
from tests.scripted_backend import ScriptedBackend
from tests.server.live import LiveServer

OpenModel = Callable[[ModelEntry, Callable[[float], None]], LLM]

TIMINGS = Timings(queue_s=0.0, ttft_s=0.1, prefill_s=0.1, decode_s=0.5, prefill_tok_s=100.0, decode_tok_s=50.0)


def done(text: str = "", reason: str = "stop", **fields: Any) -> Done:
    """The end of a completion of 12 prompt tokens, 4 of them cached, and 7 generated ones."""
    usage = Usage(prompt_tokens=12, completion_tokens=7, cached_tokens=4)
    return Done(text=text, finish_reason=reason, usage=usage, timings=TIMINGS, **fields)  # type: ignore[arg-type]


class Asked(NamedTuple):
    """What a route asked of the model."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]


class ScriptedLLM(LLM):
    """A model whose next answer is `script`; an exception in it is raised there. Options are checked as always."""

    def __init__(self) -> None:
        super().__init__(ScriptedBackend())
        self.script: list[ChatEvent | Exception] = []
        self.asked: list[Asked] = []

    def achat(self, messages: Any, **options: Any) -> AsyncGenerator[ChatEvent, None]:
        parse_options(options)
        self.asked.append(Asked(messages, options))
        return self._play(list(self.script))

    async def _play(self, script: Sequence[ChatEvent | Exception]) -> AsyncGenerator[ChatEvent, None]:
        yield Progress(0, 12, 0)
        for event in script:
            if isinstance(event, Exception):
                raise event
            yield event


def served_by(open_model: OpenModel, *entries: ModelEntry, **settings: Any) -> LiveServer:
    """Return a server, to be entered.

    Args:
        open_model: see ModelManager.
        entries: by default one model named "small", with the alias "claude-small".
        settings: fields of ServerSettings.
    """
    small = ModelEntry(name="small", path=Path("small.gguf"), aliases=("claude-small",))
    return LiveServer(ModelManager(entries or (small,), open_model), **settings)


class Scripted(NamedTuple):
    """A server, and the model behind it."""

    url: str
    llm: ScriptedLLM


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """A server whose model says what it is told to."""
    llm = ScriptedLLM()
    with served_by(lambda entry, report: llm) as server:
        yield Scripted(server.url, llm)


@pytest.fixture(scope="module")
def real_url() -> Iterator[str]:
    """The address of a server with the real demo model, in a worker process."""
    path = require_demo_model()
    options = LoadOptions(n_ctx=4096, n_slots=2, gpu_layers=0)
    entry = ModelEntry(name="smollm2", path=path, aliases=("claude-small",), options=options)

    def open_model(entry: ModelEntry, report: Callable[[float], None]) -> LLM:
        return LLM(open_backend(entry.path, entry.options, in_process=False, on_progress=report))

    with served_by(open_model, entry) as server:
        yield server.url
