"""tokenizer.model: what is read of it, and that nothing damaged gets past."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localllm.convert.tokenizer.model_proto import Piece, read_model
from localllm.errors import InvalidCheckpoint

BPE = 2


def field(number: int, payload: bytes) -> bytes:
    """Return a field of bytes; all of the lengths here are below 128."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def number(which: int, value: int) -> bytes:
    return bytes([which << 3, value])


def piece(text: str, score: float, kind: int) -> bytes:
    return field(1, field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + number(3, kind))


MODEL = piece("<unk>", 0.0, 2) + piece("▁the", -1.5, 1) + field(2, number(3, BPE)) + field(3, number(3, 0))


def written(folder: Path, raw: bytes) -> Path:
    path = folder / "tokenizer.model"
    path.write_bytes(raw)
    return path


def test_pieces_and_switches_are_read(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, MODEL))
    assert model.pieces == (Piece("<unk>", 0.0, 2), Piece("▁the", -1.5, 1))
    assert model.is_bpe and not model.adds_prefix


def test_defaults_are_sentencepieces(tmp_path: Path) -> None:
    model = read_model(written(tmp_path, piece("a", 0.0, 1)))
    assert not model.is_bpe and model.adds_prefix


@pytest.mark.parametrize("raw", [b"", MODEL[:-1], MODEL[:9], b"\x0b", b"\xff" * 12, field(1, field(1, b"\xff"))])
def test_damaged_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"tokenizer\.model"):
        read_model(written(tmp_path, raw))


@given(raw=st.binary(max_size=60))
def test_noise_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    with contextlib.suppress(InvalidCheckpoint):
        assert read_model(written(tmp_path_factory.mktemp("noise"), raw)).pieces
