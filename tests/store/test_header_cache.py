"""What headers say in short, and that it is read once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localllm.gguf import glance
from localllm.store import header_cache
from localllm.store.facts import Facts, read_facts, size_in
from localllm.store.header_cache import cache_file, facts_of
from localllm.store.models import StoredModel
from localllm.store.own_folder import folder_models
from tests.gguf.raw import ARCH, ARRAY, TEXT, array, gguf_bytes, pair, write
from tests.runtime.embedding_models import write_encoder, write_reranker
from tests.store.layouts import tiny_gguf, write_file
from tests.tiny_model import vocabulary, write_tiny_model


def models(folder: Path) -> list[StoredModel]:
    return list(folder_models(folder))


@pytest.fixture
def n_reads(monkeypatch: pytest.MonkeyPatch) -> list[StoredModel]:
    """The models whose headers were read."""
    read: list[StoredModel] = []

    def reading(model: StoredModel) -> Facts:
        read.append(model)
        return read_facts(model)

    monkeypatch.setattr(header_cache, "read_facts", reading)
    return read


def test_glance_stops_before_the_vocabulary(tmp_path: Path) -> None:
    pairs = [ARCH, pair("a", TEXT, "b"), pair("tokenizer.ggml.tokens", ARRAY, array(TEXT, 1 << 60, b"")), b"garbage"]
    assert glance(write(tmp_path / "m.gguf", gguf_bytes(pairs))) == {"general.architecture": "llama", "a": "b"}


def test_facts_are_the_headers_words(tmp_path: Path) -> None:
    write_file(tmp_path / "m.gguf")
    (facts,) = facts_of(models(tmp_path))
    assert facts == Facts("model 000000", "llama", "7B", None, "Q4_K_M", 4096, "text")


def test_weights_are_counted_where_there_are_no_words(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "m.gguf")
    (facts,) = facts_of(models(tmp_path))
    assert facts.size_label is None and facts.quantization == "F32"
    assert facts.n_params is not None and facts.n_params > 2 * 64 * len(vocabulary())


def test_weights_are_those_of_the_name_where_the_header_has_no_words(tmp_path: Path) -> None:
    write_file(tmp_path / "llama-2-13b-chat.Q4_K_M.gguf", tiny_gguf(label=None))
    (facts,) = facts_of(models(tmp_path))
    assert (facts.size_label, facts.n_params) == ("13B", None)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama3.2:1b", "1B"),
        ("mixtral-8x7b-v0.1", "8x7B"),
        ("Qwen2.5-0.5B-Instruct", "0.5B"),
        ("smollm2-135M", "135M"),
        ("gemma-3n-E4B", None),
        ("model-b", None),
        ("x-2.b", None),
    ],
)
def test_names_say_sizes(name: str, size: str | None) -> None:
    assert size_in(name) == size


def test_embedders_and_rerankers_are_told_from_models_of_text(tmp_path: Path) -> None:
    write_encoder(tmp_path / "a.gguf")
    write_reranker(tmp_path / "b.gguf")
    write_tiny_model(tmp_path / "c.gguf")
    assert [facts.kind for facts in facts_of(models(tmp_path))] == ["embedding", "rerank", "text"]


def test_damaged_header_is_a_fact_and_no_error(tmp_path: Path) -> None:
    write_file(tmp_path / "m.gguf", b"GGUF\x03")
    (facts,) = facts_of(models(tmp_path))
    assert facts.problem is not None and "m.gguf" in facts.problem and facts.kind is None


def test_header_is_read_once_and_again_when_the_file_changes(tmp_path: Path, n_reads: list[StoredModel]) -> None:
    path = write_file(tmp_path / "m.gguf")
    first = facts_of(models(tmp_path))
    assert facts_of(models(tmp_path)) == first and len(n_reads) == 1
    write_file(path, tiny_gguf(1))
    os.utime(path, (1, 1))
    (again,) = facts_of(models(tmp_path))
    assert again.title == "model 000001" and len(n_reads) == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version": 1}', b'{"version": 0, "headers": {}}', b'{"version": 1, "headers": [1]}', b"\xff"],
)
def test_damaged_memory_is_made_anew(content: bytes, tmp_path: Path, n_reads: list[StoredModel]) -> None:
    write_file(tmp_path / "m.gguf")
    write_file(cache_file(), content)
    for _ in range(2):
        facts_of(models(tmp_path))
    assert len(n_reads) == 1


def test_memory_that_cannot_be_written_is_done_without(home: Path, tmp_path: Path) -> None:
    write_file(home / "cache", b"a file where the folder should be")
    write_file(tmp_path / "m.gguf")
    assert facts_of(models(tmp_path))[0].architecture == "llama"


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_reads: list[StoredModel]) -> None:
    monkeypatch.setattr(header_cache, "MAX_ENTRIES", 2)
    for i in range(5):
        write_file(tmp_path / f"{i}.gguf", tiny_gguf(i))
    facts_of(models(tmp_path))
    facts_of(models(tmp_path)[3:])
    assert len(n_reads) == 5
    facts_of(models(tmp_path)[:1])
    assert len(n_reads) == 6
