"""The demo model: every matrix is found, and the file is one that llama.cpp's quantizer takes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.calibrate import CalibrationOptions, Chunks, MomentFolder, calibrate, cut, default_documents
from localllm.calibrate.plan import reader_bytes
from localllm.gguf import ModelShape, read_header
from localllm.llama import Model, QuantizeParams, quantize_model
from localllm.quantize.imatrix import read_imatrix
from tests.demo_model import require_demo_model

pytestmark = pytest.mark.real
Q4_K_M = 15
FEW_LAYERS_BYTES = 100 << 20
"""What the second moments of three layers take while they are added up."""


@pytest.fixture(scope="module")
def path() -> Path:
    return require_demo_model()


@pytest.fixture(scope="module")
def chunks(path: Path) -> Chunks:
    with Model(path) as model:
        return cut(default_documents(), model.vocab, n_ctx=64, n_chunks=2)


def test_every_matrix_of_every_layer_is_measured_and_llama_cpp_takes_the_file(
    path: Path, chunks: Chunks, tmp_path: Path
) -> None:
    header = read_header(path)
    with Model(path) as model:
        options = CalibrationOptions(n_threads=1, memory_bytes=1 << 30)
        calibrate(model, ModelShape.from_header(header), chunks, tmp_path / "i.gguf", options)
    found = read_imatrix(tmp_path / "i.gguf")
    matrices = {t.name: t for t in header.tensors if t.name.startswith("blk.") and len(t.shape) == 2}
    assert set(found.entries) == set(matrices) and len(matrices) == 30 * 7
    assert all(found.importance(tensor) is not None for tensor in matrices.values())
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "i.gguf").tensors}
    assert names == {f"{name}.{part}" for name in matrices for part in ("in_sum2", "counts")}
    imatrix = {name: entry.importance.reshape(-1) for name, entry in found.entries.items()}
    params = QuantizeParams(Q4_K_M, n_threads=1, allow_requantize=True, imatrix=imatrix)
    quantize_model(path, tmp_path / "q.gguf", params)
    made = read_header(tmp_path / "q.gguf").tensor("blk.10.ffn_down.weight")
    assert made is not None and made.type.name == "q4_K"


@pytest.mark.slow
def test_passes_of_few_layers_give_the_bytes_of_one_pass(path: Path, chunks: Chunks, tmp_path: Path) -> None:
    shape = ModelShape.from_header(read_header(path))
    for name, memory in (("one", 4 << 30), ("many", reader_bytes(shape, 64, 64) + FEW_LAYERS_BYTES)):
        with Model(path) as model:
            options = CalibrationOptions(n_threads=1, memory_bytes=memory, moments=tmp_path / name)
            calibrate(model, shape, chunks, tmp_path / f"{name}.gguf", options)
    one, many = (MomentFolder.open(tmp_path / name) for name in ("one", "many"))
    for layer in (0, 15, 29):
        for part in ("attn_q", "attn_output", "ffn_up", "ffn_down"):
            weight = f"blk.{layer}.{part}.weight"
            np.testing.assert_array_equal(one.moment(weight).h, many.moment(weight).h)
