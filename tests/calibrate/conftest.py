"""Fixtures: tiny models, dense and with experts, and a text as chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.calibrate import CalibrationOptions, Chunks, Document, calibrate, cut
from localllm.gguf import ModelShape, read_header
from localllm.llama import Model
from localllm.quantize.imatrix import Imatrix
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.tiny_model import write_tiny_model

TEXT = "The world in the hollow well, and all the other words on her wall. Why not? " * 30
GIB = 1 << 30

Calibrate = Callable[..., Imatrix]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(write_tiny_model(tmp_path_factory.mktemp("calibrate") / "tiny.gguf", n_ctx=4096)) as model:
        yield model


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(write_tiny_moe(tmp_path_factory.mktemp("calibrate") / "moe.gguf")) as model:
        yield model


@pytest.fixture(scope="session")
def chunks(tiny: Model) -> Chunks:
    return cut([Document("text", TEXT)], tiny.vocab, n_ctx=64, n_chunks=5)


@pytest.fixture
def run(tmp_path: Path, chunks: Chunks) -> Calibrate:
    """Calibrate into `out.gguf` of the test's folder, on one thread."""

    def run(model: Model, text: Chunks = chunks, *, memory_bytes: int = GIB, out: str = "out.gguf", **options: object):  # type: ignore[no-untyped-def]
        on_progress = options.pop("on_progress", lambda _: None)
        wanted = CalibrationOptions(n_threads=1, memory_bytes=memory_bytes, **options)  # type: ignore[arg-type]
        shape = ModelShape.from_header(read_header(model.path))
        return calibrate(model, shape, text, tmp_path / out, wanted, on_progress)  # type: ignore[arg-type]

    return run
