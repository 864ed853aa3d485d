"""What we read is what the `gguf` package reads."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from localllm.gguf import ArrayRef, ModelShape, check_loadable, read_header, summarize
from tests.demo_model import require_demo_model
from tests.tiny_model import write_tiny_model


def assert_same(path: Path) -> None:
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for key, value in ours.metadata.items():
        if isinstance(value, ArrayRef):
            assert value.length == len(fields[key].data)
            assert value.read(50) == fields[key].contents(slice(0, 50))
        else:
            assert value == fields[key].contents()
    assert ours.data_offset == theirs.data_offset
    assert ours.alignment == theirs.alignment
    assert len(ours.tensors) == len(theirs.tensors)
    for mine, reference in zip(ours.tensors, theirs.tensors, strict=True):
        assert mine.name == reference.name
        assert mine.type.id == reference.tensor_type
        assert mine.shape == tuple(reference.shape.tolist())
        assert (mine.offset, mine.n_bytes) == (reference.data_offset, reference.n_bytes)
        assert mine.n_params == reference.n_elements


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_tiny_model_reads_the_same(tmp_path: Path, arch: str) -> None:
    assert_same(write_tiny_model(tmp_path / "tiny.gguf", arch=arch))


@pytest.mark.real
def test_demo_model_reads_the_same() -> None:
    assert_same(require_demo_model())


@pytest.mark.real
def test_demo_model_has_its_published_shape() -> None:
    header = read_header(require_demo_model())
    shape = check_loadable(header)
    assert shape == ModelShape.from_header(header)
    assert (shape.n_layer, shape.n_embd, shape.n_head[0], shape.n_head_kv[0]) == (30, 576, 9, 3)
    assert (shape.head_dim_k, shape.n_vocab, shape.n_ctx_train, shape.n_ff) == (64, 49152, 8192, 1536)
    assert shape.kv_bytes_per_token() == 30 * 2 * 3 * 64 * 2
    assert summarize(header).file_type == "Q4_1"
    assert shape.weights.ties_embeddings
