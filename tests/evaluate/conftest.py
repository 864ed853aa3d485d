"""Fixtures: two tiny models with one vocabulary, and a text as chunks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localllm.evaluate import Chunks
from localllm.llama import Model
from tests.tiny_model import write_tiny_model

TEXT = "The world in the hollow well, and all the other words on her wall. " * 40


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(write_tiny_model(tmp_path_factory.mktemp("evaluate") / "tiny.gguf", n_ctx=4096)) as model:
        yield model


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A model with other weights, nearer to uniform."""
    path = write_tiny_model(tmp_path_factory.mktemp("evaluate") / "another.gguf", n_ctx=4096, seed=1, logit_std=1)
    with Model(path) as model:
        yield model


@pytest.fixture(scope="session")
def chunks(tiny: Model) -> Chunks:
    return Chunks.of_text(TEXT, tiny.vocab, n_ctx=65, n_chunks=3)
