"""A draft model beside the model, loaded in this process and in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import ModelNotFound, RequestError
from localllm.runtime import Backend
from tests.runtime.conftest import OPTIONS, generate, request
from tests.tiny_model import write_tiny_model

MakeBackend = Callable[..., Backend]
STEADY = replace(OPTIONS, kv_type_k="q8_0", kv_type_v="q8_0")


@pytest.fixture(scope="module")
def noisy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("draft") / "noisy.gguf", n_ctx=1024, noise=0.2)


def test_it_drafts_and_the_answer_is_the_same(make_backend: MakeBackend, noisy_path: Path) -> None:
    backend = make_backend(options=replace(STEADY, draft_model=noisy_path))
    off, on = (generate(backend, request(39, 72, max_tokens=60, spec=s, cache_prompt=False)) for s in ("off", "draft"))
    assert on.tokens == off.tokens
    report = on.wait().usage.speculation
    assert report is not None and report.kind == "draft" and report.accepted > 0


def test_memory_of_both_is_planned(make_backend: MakeBackend, noisy_path: Path) -> None:
    alone, beside = make_backend(options=STEADY), make_backend(options=replace(STEADY, draft_model=noisy_path))
    assert beside.info.memory_bytes > alone.info.memory_bytes + noisy_path.stat().st_size // 2


def test_missing_file_is_said_to_be_missing(make_backend: MakeBackend, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.gguf"):
        make_backend(options=replace(OPTIONS, draft_model=tmp_path / "gone.gguf"))


def test_drafts_by_a_model_that_nobody_named_are_refused(make_backend: MakeBackend) -> None:
    with pytest.raises(RequestError, match="no draft model is named") as caught:
        make_backend(options=replace(OPTIONS, spec="draft"))
    assert "--draft-model" in (caught.value.hint or "")
    with pytest.raises(RequestError, match="without a draft model"):
        generate(make_backend(), request(1, spec="draft"))


def test_model_with_other_tokens_is_refused(make_backend: MakeBackend, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "other.gguf", extra={"tokenizer.ggml.add_eos_token": True})
    data = path.read_bytes().replace(b"\x02\0\0\0\0\0\0\0th", b"\x02\0\0\0\0\0\0\0ht")
    path.write_bytes(data.replace(b"\x02\0\0\0\0\0\0\0he", b"\x02\0\0\0\0\0\0\0eh"))
    with pytest.raises(RequestError, match=r"other\.gguf cannot draft for tiny\.gguf: token \d+ is 'eh' and 'he'"):
        make_backend(options=replace(OPTIONS, draft_model=path))
