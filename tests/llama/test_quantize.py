"""llama.cpp's quantizer through the typed layer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import ModelError
from localllm.llama import Model, QuantizeParams, quantize_model
from tests.tiny_model import write_tiny_model

Q8_0, Q4_K_S, IQ2_XXS = 7, 14, 19


@pytest.fixture(scope="module")
def wide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows are whole super-blocks of 256."""
    return write_tiny_model(tmp_path_factory.mktemp("wide") / "wide.gguf", n_layer=3, n_embd=256, n_head=4, n_ff=256)


def tensor(path: Path, name: str) -> gguf.ReaderTensor:
    return next(t for t in gguf.GGUFReader(path).tensors if t.name == name)


def test_result_is_smaller_and_loads(wide_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "q8.gguf"
    quantize_model(wide_path, target, QuantizeParams(ftype=Q8_0, n_threads=1))
    assert target.stat().st_size < wide_path.stat().st_size / 3
    with Model(target) as model:
        assert "Q8_0" in model.description


def test_importance_decides_where_the_error_goes(wide_path: Path, tmp_path: Path) -> None:
    name = "blk.0.ffn_up.weight"
    importance = np.ones(256, dtype=np.float64)
    importance[::8] = 10000.0
    errors = []
    for label, imatrix in (("plain", {}), ("weighted", {name: importance})):
        target = tmp_path / f"{label}.gguf"
        quantize_model(
            wide_path,
            target,
            QuantizeParams(ftype=Q4_K_S, n_threads=1, pure=True, imatrix=imatrix),  # type: ignore[arg-type]
        )
        made = tensor(target, name)
        values = gguf.dequantize(made.data, made.tensor_type)
        errors.append(((values - tensor(wide_path, name).data)[:, ::8] ** 2).mean())
    assert errors[1] < 0.7 * errors[0]


def test_importance_may_be_a_view(wide_path: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = np.abs(rng.standard_normal((256, 2))).astype(np.float32)
    files = []
    for label, values in (("view", table[:, 0]), ("copy", table[:, 0].copy())):
        files.append(tmp_path / f"{label}.gguf")
        params = QuantizeParams(ftype=Q4_K_S, n_threads=1, imatrix={"blk.0.ffn_up.weight": values})
        quantize_model(wide_path, files[-1], params)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_layers_can_be_left_out(wide_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "pruned.gguf"
    quantize_model(wide_path, target, QuantizeParams(ftype=Q8_0, n_threads=1, prune_layers=(1,)))
    with Model(target) as model:
        assert model.n_layer == 2
    kept = {t.name for t in gguf.GGUFReader(target).tensors}
    assert "blk.1.ffn_up.weight" in kept and "blk.2.ffn_up.weight" not in kept


def test_refusals_give_a_reason(wide_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    with pytest.raises(ModelError, match=r"cannot quantize none.gguf: (?!no reason).+"):
        quantize_model(tmp_path / "none.gguf", target, QuantizeParams(ftype=Q8_0))
    with pytest.raises(ModelError, match=r"cannot quantize wide.gguf: (?!no reason).*[Ii]mportance matrix"):
        quantize_model(wide_path, target, QuantizeParams(ftype=IQ2_XXS, n_threads=1))


def test_quantized_source_needs_permission(wide_path: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "q8.gguf", tmp_path / "q4.gguf"
    quantize_model(wide_path, first, QuantizeParams(ftype=Q8_0, n_threads=1))
    with pytest.raises(ModelError, match="requantiz"):
        quantize_model(first, second, QuantizeParams(ftype=Q4_K_S, n_threads=1))
    quantize_model(first, second, QuantizeParams(ftype=Q4_K_S, n_threads=1, allow_requantize=True))
    with Model(second) as model:
        assert model.n_layer == 3
