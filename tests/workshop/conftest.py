"""A folder with a tiny model and a text, where temporary files go, too."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from localllm.evaluate import speed
from localllm.gguf import read_header
from tests.tiny_model import write_tiny_model

TEXT = "The world in the hollow well, and all the other words on her wall. Why not? " * 40


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tiny.gguf`, `text.txt` and `tmp`, the folder of temporary files."""
    write_tiny_model(tmp_path / "tiny.gguf", n_ctx=4096)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(speed, "SECONDS_ENOUGH", 0.0)
    return tmp_path


def scale_channel(path: Path, tensor: str, channel: int, factor: float) -> None:
    """Scale one value of a vector of a model's file, such as a norm's."""
    found = read_header(path).tensor(tensor)
    assert found is not None and found.type.name == "f32" and len(found.shape) == 1
    data = np.memmap(path, dtype=np.float32, mode="r+", offset=found.offset, shape=found.shape)
    data[channel] *= factor
    data.flush()
