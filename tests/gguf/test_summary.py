"""A summary is short whatever the file holds, and fits JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from localllm.gguf import read_header, summarize
from tests.gguf.raw import ARCH, ARRAY, F32, TEXT, array, gguf_bytes, pair, write
from tests.tiny_model import write_tiny_model


def test_tiny_model(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    summary = summarize(read_header(path))
    assert (summary.path, summary.n_parts, summary.n_bytes) == (str(path), 1, path.stat().st_size)
    assert (summary.name, summary.file_type, summary.bpw) == ("tiny", "F32", 32.0)
    assert summary.shape is not None
    assert summary.shape_problem is None
    assert [(line.type, line.n_tensors) for line in summary.types] == [("f32", 21)]
    tokens = next(line for line in summary.metadata if line.key == "tokenizer.ggml.tokens")
    assert (tokens.type, tokens.length, tokens.value) == ("arr[str]", 273, ["!", '"', "#", "$", "%", "&"])


def test_long_text_is_cut_and_numbers_fit_json(tmp_path: Path) -> None:
    pairs = [ARCH, pair("long", TEXT, "x" * 5000), pair("inf", F32, float("inf")),
             pair("nan", ARRAY, array(F32, 1, b"\0\0\xc0\x7f"))]  # fmt: skip
    summary = summarize(read_header(write(tmp_path / "raw.gguf", gguf_bytes(pairs))))
    lines = {line.key: line for line in summary.metadata}
    assert len(str(lines["long"].value)) == 400
    assert lines["long"].length == 5000
    assert lines["inf"].value == "inf"
    assert lines["nan"].value == ["nan"]
    json.dumps(asdict(summary), allow_nan=False)


def test_what_is_not_a_model_is_summarized_with_the_reason(tmp_path: Path) -> None:
    summary = summarize(read_header(write(tmp_path / "raw.gguf", gguf_bytes())))
    assert summary.shape is None
    assert summary.shape_problem == "raw.gguf: llama.block_count is missing"
