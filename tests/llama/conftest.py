"""Fixtures: the tiny model's file, loaded once; and a way to make contexts that are closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.llama import AbortFlag, Context, ContextParams, EvalCallback, Model
from tests.tiny_model import write_tiny_model

MakeContext = Callable[..., Context]


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("llama") / "tiny.gguf")


@pytest.fixture(scope="session")
def model(tiny_path: Path) -> Iterator[Model]:
    with Model(tiny_path) as model:
        yield model


@pytest.fixture
def make_context(model: Model) -> Iterator[MakeContext]:
    made: list[Context] = []

    def make(
        *,
        of: Model = model,
        abort_flag: AbortFlag | None = None,
        eval_callback: EvalCallback | None = None,
        **params: Any,
    ) -> Context:
        full = ContextParams(**{"n_ctx": 256, "n_batch": 256, "n_seq_max": 4, "n_threads": 1, **params})
        context = Context(of, full, abort_flag=abort_flag, eval_callback=eval_callback)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def context(make_context: MakeContext) -> Context:
    return make_context()
