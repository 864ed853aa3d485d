"""LoRA adapters behind both backends: loaded, chosen by request, and refused where they do not fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localllm.engine import GenerationRequest
from localllm.errors import InvalidModelFile, ModelNotFound, NotEnoughMemory, RequestError
from localllm.hardware.types import AdapterSpec, LoadOptions
from localllm.runtime import Backend, TextControls, open_backend
from tests.runtime.conftest import GREEDY, Record, generate, request
from tests.tiny_adapter import matrices, write_tiny_adapter

MakeBackend = Callable[..., Backend]


@pytest.fixture(scope="session")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterSpec, AdapterSpec]:
    folder = tmp_path_factory.mktemp("adapters")
    return (
        AdapterSpec(write_tiny_adapter(folder / "formal.gguf", seed=1)),
        AdapterSpec(write_tiny_adapter(folder / "rude.gguf", seed=2), scale=0.0),
    )


def options(*adapters: AdapterSpec, n_ctx: int = 1024) -> LoadOptions:
    return LoadOptions(n_ctx=n_ctx, n_slots=4, n_threads=1, gpu_layers=0, adapters=adapters)


def test_info_names_the_adapters(make_backend: MakeBackend, specs: tuple[AdapterSpec, AdapterSpec]) -> None:
    adapters = make_backend(options=options(*specs)).info.adapters
    assert [(a.path, a.name, a.scale) for a in adapters] == [
        (str(specs[0].path), "formal", 1.0),
        (str(specs[1].path), "rude", 0.0),
    ]
    assert make_backend().info.adapters == ()


def test_requests_choose_among_the_adapters(make_backend: MakeBackend, specs: tuple[AdapterSpec, AdapterSpec]) -> None:
    backend, bare = make_backend(options=options(*specs)), make_backend()

    def says(lora: tuple[tuple[int, float], ...] | None) -> list[int]:
        return generate(backend, request(max_tokens=30, lora=lora)).tokens

    assert says(()) == generate(bare, request(max_tokens=30)).tokens
    assert says(None) == says(((0, 1.0),))
    assert len({tuple(says(lora)) for lora in ((), ((0, 1.0),), ((1, 1.0),), ((0, 1.0), (1, 1.0)))}) == 4


def test_both_backends_say_the_same_with_adapters(tiny_path: Path, specs: tuple[AdapterSpec, AdapterSpec]) -> None:
    runs = []
    for in_process in (True, False):
        backend = open_backend(tiny_path, options(*specs), in_process=in_process)
        loras = (None, (), ((1, 1.0),), ((0, 0.5), (1, -1.0)))
        records = [Record() for _ in loras]
        for record, lora in zip(records, loras, strict=True):
            asked = GenerationRequest(prompt=(39, 72), max_tokens=40, sampling=GREEDY, ignore_eos=True, lora=lora)
            backend.submit(asked, TextControls(), record)
        for record in records:
            record.wait()
        runs.append([record.tokens for record in records])
        backend.close()
    assert runs[0] == runs[1]


def test_unknown_adapter_is_refused_by_name(make_backend: MakeBackend, specs: tuple[AdapterSpec, AdapterSpec]) -> None:
    backend = make_backend(options=options(*specs))
    with pytest.raises(RequestError, match="no LoRA adapter 2") as caught:
        backend.submit(request(lora=((2, 1.0),)), TextControls(), Record())
    assert caught.value.hint == "There are 0 (formal.gguf), 1 (rude.gguf)."
    assert generate(backend, request()).wait().reason == "length"


def test_bad_adapter_ends_the_load_with_the_reason(make_backend: MakeBackend, tmp_path: Path, tiny_path: Path) -> None:
    wrong = write_tiny_adapter(tmp_path / "wrong.gguf", shapes=matrices(n_embd=32))
    with pytest.raises(InvalidModelFile, match=r"wrong\.gguf: .*32 × 4"):
        make_backend(options=options(AdapterSpec(wrong)))
    with pytest.raises(InvalidModelFile, match="not a LoRA adapter but a model"):
        make_backend(options=options(AdapterSpec(tiny_path)))
    with pytest.raises(ModelNotFound):
        make_backend(options=options(AdapterSpec(tmp_path / "none.gguf")))
    wrong.write_bytes(wrong.read_bytes()[:3000])
    with pytest.raises(InvalidModelFile, match="truncated"):
        make_backend(options=options(AdapterSpec(wrong)))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -10.5])
def test_scale_out_of_bounds_is_refused(
    make_backend: MakeBackend, specs: tuple[AdapterSpec, AdapterSpec], scale: float
) -> None:
    with pytest.raises(RequestError, match=r"scale of formal\.gguf is"):
        make_backend(options=options(AdapterSpec(specs[0].path, scale)))


def test_ignored_norms_are_told_of(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_adapter(tmp_path / "normed.gguf", extra_tensors=["blk.0.attn_norm.weight"])
    notes = make_backend(options=options(AdapterSpec(path))).info.plan_notes
    assert "normed.gguf brings 1 trained norms, which llama.cpp does not apply." in notes


def test_adapters_are_reckoned_in_the_memory(
    tiny_path: Path, specs: tuple[AdapterSpec, AdapterSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_bytes = specs[0].path.stat().st_size
    many = [specs[0]] * 1000

    def load(n_free: int, *adapters: AdapterSpec) -> None:
        monkeypatch.setattr("localllm.runtime.loading.available_ram_bytes", lambda: n_free)
        open_backend(tiny_path, options(*adapters, n_ctx=256), in_process=True).close()

    load(500 * n_bytes)
    with pytest.raises(NotEnoughMemory):
        load(500 * n_bytes, *many)


@pytest.mark.skipif(os.name != "posix", reason="names that are not text")
def test_name_of_an_adapter_need_not_be_text(
    make_backend: MakeBackend, tmp_path: Path, specs: tuple[AdapterSpec, AdapterSpec]
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.gguf"))
    path.write_bytes(specs[0].path.read_bytes())
    (adapter,) = make_backend(options=options(AdapterSpec(path))).info.adapters
    assert adapter.path == str(path)
