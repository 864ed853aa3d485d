"""What a model's file says."""

from __future__ import annotations

import os
from pathlib import Path

from localllm.server.model_files import read_model_file
from tests.runtime.embedding_models import write_encoder, write_reranker
from tests.tiny_model import write_tiny_model


def test_the_header_is_told_and_arrays_and_templates_are_not_among_its_values(tmp_path: Path) -> None:
    file = read_model_file(write_tiny_model(tmp_path / "m.gguf", extra={"general.license": "mit"}))
    metadata = dict(file.metadata)
    assert (file.architecture, file.n_layer, metadata["general.license"]) == ("llama", 2, "mit")
    assert file.n_params > 10_000 and "<|im_start|>" in file.chat_template and not file.is_encoder
    assert not any(key.startswith(("tokenizer.chat_template", "tokenizer.ggml.tokens")) for key in metadata)


def test_encoders_and_rerankers_are_told_apart(tmp_path: Path) -> None:
    encoder = read_model_file(write_encoder(tmp_path / "e.gguf"))
    reranker = read_model_file(write_reranker(tmp_path / "r.gguf"))
    assert (encoder.is_encoder, encoder.can_rank, reranker.can_rank) == (True, False, True)


def test_the_digest_changes_with_the_file(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    first = read_model_file(path)
    assert read_model_file(path) is first and len(first.digest) == 64
    os.utime(path, (1, 1))
    assert read_model_file(path).digest != first.digest


def test_what_cannot_be_read_has_a_digest_and_no_facts(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model")
    bad, missing = read_model_file(tmp_path / "bad.gguf"), read_model_file(tmp_path / "missing.gguf")
    assert (bad.n_bytes, bad.architecture, missing.n_bytes) == (11, "", 0)
    assert len({bad.digest, missing.digest}) == 2
