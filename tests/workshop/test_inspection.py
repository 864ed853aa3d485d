"""Outliers that were put into a tiny model are found, and what 8 bits lose is what NumPy says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localllm.calibrate import OutlierRule
from localllm.calibrate.inputs import MatrixInput, Seen
from localllm.calibrate.samples import RowSamples
from localllm.errors import LocalLLMError, RequestError
from localllm.gguf import read_header
from localllm.workshop import (
    CalibrationRequest,
    Inspection,
    InspectRequest,
    MeasureRequest,
    QuantizeRequest,
    inspect_file,
    quantize_file,
)
from localllm.workshop.rounding import rounding_errors
from tests.calibrate.tiny_moe import write_tiny_moe
from tests.quantize.skeleton import Skeleton
from tests.tiny_model import write_tiny_model
from tests.workshop.conftest import scale_channel
from tests.workshop.watching import Watcher


def request_for(folder: Path, **more: object) -> InspectRequest:
    text = CalibrationRequest((folder / "text.txt",), n_chunks=4, n_ctx=64, gpu_layers=0, n_threads=1)
    return InspectRequest(**({"text": text} | more))  # type: ignore[arg-type]


def inspect(folder: Path, name: str = "tiny.gguf", **more: object) -> Inspection:
    return inspect_file(folder / name, request_for(folder, **more), Watcher())


def test_a_model_without_outliers_has_none(workplace: Path) -> None:
    found = inspect(workplace)
    assert [one.kind for one in found.inputs] == [
        "attn_k attn_q attn_v",
        "attn_output",
        "ffn_gate ffn_up",
        "ffn_down",
        "output",
    ]
    assert all(one.outliers == () for one in found.inputs)
    assert [one.n_layers for one in found.inputs] == [2, 2, 2, 2, 1]
    assert all(one.n_rows == 256 * one.n_layers for one in found.inputs) and found.n_tokens == 256
    assert 2 < found.inputs[0].kurtosis < 4


def test_a_channel_that_is_scaled_up_is_found_where_it_is_read(workplace: Path) -> None:
    for layer in range(2):
        scale_channel(workplace / "tiny.gguf", f"blk.{layer}.attn_norm.weight", 13, 50.0)
    found = inspect(workplace)
    by_kind = {one.kind: one for one in found.inputs}
    (outlier,) = by_kind["attn_k attn_q attn_v"].outliers
    assert outlier.channel == 13 and outlier.n_layers == 2
    assert outlier.position_share > 0.5 and outlier.max > 50 and 20 < outlier.rms < 100
    assert by_kind["attn_k attn_q attn_v"].kurtosis > 20
    assert by_kind["ffn_gate ffn_up"].outliers == ()


def test_a_channel_of_the_embedding_is_found_in_the_output_too(workplace: Path) -> None:
    scale_channel(workplace / "tiny.gguf", "output_norm.weight", 5, 50.0)
    found = inspect(workplace)
    assert [(one.kind, [channel.channel for channel in one.outliers]) for one in found.inputs if one.outliers] == [
        ("output", [5])
    ]


def test_outliers_hurt_with_one_scale_a_token_and_hardly_with_blocks(workplace: Path) -> None:
    before = {one.kind: one for one in inspect(workplace).rounding}
    for layer in range(2):
        scale_channel(workplace / "tiny.gguf", f"blk.{layer}.ffn_norm.weight", 3, 50.0)
        for weight in ("ffn_gate", "ffn_up"):
            _zero_column(workplace / "tiny.gguf", f"blk.{layer}.{weight}.weight", 3)
    after = {one.kind: one for one in inspect(workplace).rounding}
    assert set(before) == {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "output"}
    assert all(0 < one.both < 0.02 for one in before.values())
    assert after["ffn_up"].token_scale > 5 * before["ffn_up"].token_scale
    assert after["ffn_up"].inputs < 0.8 * after["ffn_up"].token_scale
    assert after["ffn_up"].weights == pytest.approx(before["ffn_up"].weights, rel=0.5)


def _zero_column(path: Path, tensor: str, column: int) -> None:
    """Have a weight ignore an input, so that only the rounding of the others is felt."""
    found = read_header(path).tensor(tensor)
    assert found is not None
    np.memmap(path, dtype=np.float32, mode="r+", offset=found.offset, shape=found.shape[::-1])[:, column] = 0


def numpy_q8_0(rows: np.ndarray) -> np.ndarray:
    """ggml's q8_0, written from its description: blocks of 32, the scale kept as 16 bits."""
    blocks = rows.reshape(len(rows), -1, 32)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(127)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.trunc(blocks * inverse + np.copysign(np.float32(0.5), blocks))
    return (codes * scale.astype(np.float16).astype(np.float32)).reshape(rows.shape)


@pytest.mark.parametrize("slab_bytes", [1 << 26, 4 * 256 * 7])
def test_errors_are_those_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slab_bytes: int) -> None:
    monkeypatch.setattr("localllm.workshop.rounding.SLAB_BYTES", slab_bytes)
    Skeleton(n_layer=1).write(tmp_path / "f32.gguf")
    header = read_header(tmp_path / "f32.gguf")
    tensor = header.tensor("blk.0.attn_q.weight")
    assert tensor is not None
    n_cols, n_rows = tensor.shape
    weights = np.memmap(tmp_path / "f32.gguf", np.float32, "r", tensor.offset, (n_rows, n_cols))
    x = np.random.default_rng(0).standard_normal((9, n_cols)).astype(np.float32)
    source = MatrixInput((tensor.name,), n_cols, 1, 1.0)
    samples = RowSamples(1)
    samples.add(Seen(source, 0, x))
    ((found),) = rounding_errors(header, [source], samples)
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    exact, w8, x8 = x @ weights.T, numpy_q8_0(np.asarray(weights)), numpy_q8_0(x)
    expected = [
        _relative(exact, other)
        for other in (x @ w8.T, x8 @ weights.T, x8 @ w8.T, (np.rint(x / scale) * scale) @ weights.T)
    ]
    assert [found.weights, found.inputs, found.both, found.token_scale] == pytest.approx(expected, rel=1e-3)
    assert (found.kind, found.n_layers) == ("attn_q", 1)


def _relative(exact: np.ndarray, other: np.ndarray) -> float:
    shares = np.square(other - exact).sum(axis=1) / np.square(exact).sum(axis=1)
    return float(np.sqrt(shares.mean()))


def test_experts_are_looked_at_together(workplace: Path) -> None:
    write_tiny_moe(workplace / "moe.gguf")
    found = inspect(workplace, "moe.gguf")
    assert {"ffn_gate_exps ffn_up_exps", "ffn_down_exps"} <= {one.kind for one in found.inputs}
    errors = {one.kind: one.both for one in found.rounding}
    assert 0 < errors["ffn_down_exps"] < 0.02


def test_a_q8_0_file_is_measured_and_gone(workplace: Path) -> None:
    measure = MeasureRequest((workplace / "text.txt",), 64, 3, gpu_layers=0, n_threads=1)
    found = inspect(workplace, q8_measure=measure)
    assert inspect(workplace).q8_divergence is None
    assert found.q8_divergence is not None and 0 < found.q8_divergence.kl.value < 0.01
    assert list((workplace / "tmp").iterdir()) == []


def test_ctrl_c_leaves_no_temporary_files(workplace: Path) -> None:
    measure = MeasureRequest((workplace / "text.txt",), 64, 3, gpu_layers=0, n_threads=1)
    for watcher in (Watcher(stop_after=1), Watcher(stop_at="rounding"), Watcher(stop_at="chunk")):
        with pytest.raises(KeyboardInterrupt):
            inspect_file(workplace / "tiny.gguf", request_for(workplace, q8_measure=measure), watcher)
    assert list((workplace / "tmp").iterdir()) == []


def test_what_cannot_be_done_is_refused_by_name(workplace: Path) -> None:
    quantize_file(
        workplace / "tiny.gguf", workplace / "q4.gguf", QuantizeRequest("Q4_0", "rtn", n_threads=1), Watcher()
    )
    measure = MeasureRequest((workplace / "text.txt",), 64, 3, gpu_layers=0, n_threads=1)

    def refused(name: str, **more: object) -> str:
        with pytest.raises(LocalLLMError) as caught:
            inspect(workplace, name, **more)
        assert caught.value.hint
        return caught.value.message

    assert "is quantized already" in refused("q4.gguf", q8_measure=measure)
    assert "above 0" in refused("tiny.gguf", rule=OutlierRule(0.0))
    assert "above 0" in refused("tiny.gguf", rule=OutlierRule(float("nan")))
    assert "none.gguf" in refused("none.gguf")
    short = replace(request_for(workplace).text, n_ctx=8000)
    with pytest.raises(RequestError, match="a chunk takes"):
        inspect(workplace, text=short)


def test_a_quantized_model_can_be_looked_at(workplace: Path) -> None:
    path = write_tiny_model(workplace / "wide.gguf", n_ctx=4096)
    quantize_file(path, workplace / "q4.gguf", QuantizeRequest("Q4_0", "rtn", n_threads=1), Watcher())
    assert all(one.both < 0.03 for one in inspect(workplace, "q4.gguf").rounding)
