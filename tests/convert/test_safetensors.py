"""The safetensors reader: what it reads, and that nothing damaged gets past it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.convert.safetensors import read_tensors
from localllm.errors import InvalidCheckpoint
from tests.convert.checkpoints import bf16, framed, safetensors_bytes

RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((5, 7)).astype(np.float32)


def written(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_floats_come_as_float32(tmp_path: Path, dtype: type) -> None:
    tensors = read_tensors(written(tmp_path, safetensors_bytes({"odd": np.ones(3, dtype), "a": MATRIX.astype(dtype)})))
    assert tensors["a"].shape == (5, 7)
    np.testing.assert_array_equal(tensors["a"].read(), MATRIX.astype(dtype).astype(np.float32))


def test_bf16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    tensors = read_tensors(written(tmp_path, safetensors_bytes({"a": bf16(MATRIX)})))
    expected = (MATRIX.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(tensors["a"].read(), expected)


@given(n_rows=st.integers(1, 9))
def test_pieces_make_the_whole(tmp_path_factory: pytest.TempPathFactory, n_rows: int) -> None:
    raw = safetensors_bytes({"x": np.ones(1, np.float16), "a": MATRIX})
    tensor = read_tensors(written(tmp_path_factory.mktemp("pieces"), raw))["a"]
    pieces = list(tensor.rows(n_rows))
    assert all(len(piece) <= n_rows for piece in pieces)
    np.testing.assert_array_equal(np.concatenate(pieces), MATRIX)


def test_other_dtypes_are_listed_and_not_read(tmp_path: Path) -> None:
    tensors = read_tensors(written(tmp_path, safetensors_bytes({"ids": np.arange(4)})))
    with pytest.raises(InvalidCheckpoint, match=r"'ids' is I64; F64, F32, F16, BF16 can be converted"):
        tensors["ids"].read()


@pytest.mark.parametrize("n_bytes", [0, 7, 8, 20, -1])
def test_truncated_file_is_refused(tmp_path: Path, n_bytes: int) -> None:
    raw = safetensors_bytes({"a": MATRIX})
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors: "):
        read_tensors(written(tmp_path, raw[:n_bytes]))


def entry(shape: object = (2,), offsets: object = (0, 8), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "n_bytes", "problem"),
    [
        ([], 0, "no JSON object"),
        ({"a": entry(offsets=(0, 4))}, 4, "takes 4 bytes where F32 of shape"),
        ({"a": entry(shape=(3,))}, 8, "takes 8 bytes where"),
        ({"a": entry(offsets=(8, 0))}, 8, "takes -8 bytes"),
        ({"a": entry(shape=(-2,))}, 8, "lacks a dtype, a shape"),
        ({"a": entry(shape=(True, 2))}, 8, "lacks a dtype, a shape"),
        ({"a": entry(offsets=(0, 8, 9))}, 8, "lacks a dtype, a shape"),
        ({"a": entry(dtype=7)}, 8, "lacks a dtype, a shape"),
        ({"a": 3}, 0, "is no object"),
        ({"a": entry(), "b": entry(offsets=(4, 12))}, 12, "overlaps"),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, 20, "hole"),
        ({"a": entry()}, 16, "take 8 bytes, and 16 follow"),
        ({"a": entry(offsets=(0, 8))}, 4, "take 8 bytes, and 4 follow"),
    ],
)
def test_impossible_header_is_refused(tmp_path: Path, header: object, n_bytes: int, problem: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=problem):
        read_tensors(written(tmp_path, framed(header, bytes(n_bytes))))


def test_name_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    raw = b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": 1}'
    with pytest.raises(InvalidCheckpoint, match="occurs twice"):
        read_tensors(written(tmp_path, len(raw).to_bytes(8, "little") + raw))


@given(data=st.binary(max_size=200))
def test_noise_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    raw = len(data).to_bytes(8, "little") + data
    with pytest.raises(InvalidCheckpoint):
        read_tensors(written(tmp_path_factory.mktemp("noise"), raw))


@given(position=st.integers(8, 300), byte=st.integers(0, 255))
def test_flipped_header_byte_never_reads_outside(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    raw = bytearray(safetensors_bytes({"a": MATRIX, "b": MATRIX.astype(np.float16)}))
    raw[position] = byte
    path = written(tmp_path_factory.mktemp("flipped"), bytes(raw))
    try:
        for tensor in read_tensors(path).values():
            assert tensor.read().shape == tensor.shape
    except InvalidCheckpoint:
        pass
