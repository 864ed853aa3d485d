"""Fixtures: a tiny model, and engines on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.engine import Engine
from localllm.engine import aside as aside_module
from localllm.hardware.types import LoadPlan, MemoryEstimate, SpecMode
from localllm.llama import LoraAdapter, Model
from tests.engine.driving import EngineFactory
from tests.tiny_adapter import write_tiny_adapter
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf", n_ctx=4096)
    with Model(Path(path)) as model:
        yield model


@pytest.fixture(scope="session")
def tiny_wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A tiny model whose heads are wide enough (64) for quantized keys to be moved."""
    path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "wide.gguf", n_ctx=4096, n_embd=128)
    with Model(Path(path)) as model:
        yield model


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The tiny model with noise in its weights: a draft that is often wrong."""
    path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "noisy.gguf", n_ctx=4096, noise=0.2)
    with Model(Path(path)) as model:
        yield model


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A tiny model with the same vocabulary that knows nothing of the others."""
    path = write_tiny_model(tmp_path_factory.mktemp("tiny") / "other.gguf", n_ctx=4096, seed=7)
    with Model(Path(path)) as model:
        yield model


@pytest.fixture(scope="session")
def adapters(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LoraAdapter]]:
    """Two adapters of the tiny model."""
    folder = tmp_path_factory.mktemp("adapters")
    made = [LoraAdapter(tiny, write_tiny_adapter(folder / f"{name}.gguf", seed=seed)) for seed, name in enumerate("ab")]
    yield made
    for adapter in made:
        adapter.close()


@pytest.fixture
def make_engine(tiny: Model) -> Iterator[EngineFactory]:
    engines: list[Engine] = []

    def make(
        *,
        model: Model = tiny,
        n_ctx: int = 2048,
        n_slots: int = 8,
        kv_type: str = "f16",
        spec: SpecMode = "off",
        shares_texts: bool = False,
        **options: object,
    ) -> Engine:
        plan = LoadPlan(
            path="",
            n_ctx=n_ctx,
            n_slots=n_slots,
            n_gpu_layers=0,
            kv_type_k=kv_type,
            kv_type_v=kv_type,
            n_batch=512,
            n_ubatch=512,
            n_threads=1,
            estimate=MemoryEstimate(0, 0, 0),
            spec=spec,
            shares_texts=shares_texts,
        )
        engine = Engine(model, plan, **options)  # type: ignore[arg-type]
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    return make_engine()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[aside_module.Aside]:
    """Collects the second contexts that an engine makes, and lets every long prompt have one."""
    contexts: list[aside_module.Aside] = []
    original = aside_module.Aside.__init__

    def init(self: aside_module.Aside, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        contexts.append(self)

    monkeypatch.setattr(aside_module.Aside, "__init__", init)
    monkeypatch.setattr(aside_module, "TILE_TOKENS", 10**6)
    return contexts
