"""A Hugging Face folder as the source of a longer work."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from localllm.convert import Conversion, stored_type
from localllm.errors import InvalidCheckpoint, RequestError
from localllm.gguf import read_header
from localllm.workshop import as_gguf
from tests.convert.adapters import write_adapter
from tests.convert.checkpoints import bf16, llama_weights, safetensors_bytes, write_llama


class Heard:
    def __init__(self) -> None:
        self.made: list[Conversion] = []

    def converting(self, n_done: int, n_total: int) -> None: ...

    def converted(self, made: Conversion) -> None:
        self.made.append(made)


def test_a_file_is_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with as_gguf(path, tmp_path / "q.gguf", Heard()) as found:
        assert found == path


def test_a_folder_becomes_a_file_that_goes_in_the_end(tmp_path: Path) -> None:
    write_llama(tmp_path / "llama")
    heard = Heard()
    with as_gguf(tmp_path / "llama", tmp_path / "q.gguf", heard) as found:
        assert found.name == "llama.gguf" and read_header(found).architecture == "llama"
    assert len(heard.made) == 1 and os.listdir(tmp_path) == ["llama"]


def test_after_an_error_the_file_serves_again_unless_the_folder_changed(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "llama")
    heard = Heard()

    def stop() -> None:
        with as_gguf(source, tmp_path / "q.gguf", heard):
            raise KeyboardInterrupt

    for n_made, touched in ((1, False), (1, False), (2, True)):
        if touched:
            made_ns = heard.made[0].path.stat().st_mtime_ns
            os.utime(source / "config.json", ns=(made_ns + 1, made_ns + 1))
        with pytest.raises(KeyboardInterrupt):
            stop()
        assert len(heard.made) == n_made and heard.made[0].path.exists()


def test_a_folder_that_cannot_be_converted_leaves_nothing(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "llama")
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InvalidCheckpoint), as_gguf(source, tmp_path / "q.gguf", Heard()):
        pass
    assert os.listdir(tmp_path) == ["llama"]


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", {})
    with pytest.raises(RequestError, match="holds an adapter"), as_gguf(tmp_path / "adapter", tmp_path / "q", Heard()):
        pass


@pytest.mark.parametrize(
    ("dtypes", "expected"), [({}, "f32"), ({"F16"}, "f16"), ({"BF16"}, "bf16"), ({"F16", "BF16"}, "f32")]
)
def test_what_is_stored_is_kept(tmp_path: Path, dtypes: set[str], expected: str) -> None:
    weights = llama_weights()
    kinds = {name: sorted(dtypes)[i % len(dtypes)] for i, name in enumerate(weights)} if dtypes else {}
    stored = {
        name: bf16(values) if kinds.get(name) == "BF16" else values.astype(np.float16 if kinds else np.float32)
        for name, values in weights.items()
    }
    source = write_llama(tmp_path / "llama")
    (source / "model.safetensors").write_bytes(safetensors_bytes(stored, kinds))
    assert stored_type(source) == expected
