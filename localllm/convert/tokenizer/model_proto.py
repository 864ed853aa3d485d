"""tokenizer.model: SentencePiece's own file, a protocol buffer, of which little is needed.

Source: sentencepiece_model.proto; https://protobuf.dev/programming-guides/encoding (wire format).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localllm.convert.tokenizer.files import damaged

_BPE = 2
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """A token."""

    text: str
    score: float
    type: int
    """As in GGUF files: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte."""


@dataclass(frozen=True)
class SentencePieceModel:
    """What a tokenizer.model says."""

    pieces: tuple[Piece, ...]
    is_bpe: bool
    adds_prefix: bool


def read_model(path: Path) -> SentencePieceModel:
    """Read a tokenizer.model.

    Raises:
        InvalidCheckpoint: it is damaged.
    """
    pieces: list[Piece] = []
    model_type, adds_prefix = 1, True
    try:
        for number, value in _fields(path.read_bytes()):
            if number == _PIECE and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif number == _TRAINER and isinstance(value, bytes):
                model_type = int(dict(_fields(value)).get(3, model_type))
            elif number == _NORMALIZER and isinstance(value, bytes):
                adds_prefix = bool(dict(_fields(value)).get(3, adds_prefix))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise damaged(f"{path.name} cannot be read: {error}") from error
    if not pieces:
        raise damaged(f"{path.name} has no tokens")
    return SentencePieceModel(tuple(pieces), model_type == _BPE, adds_prefix)


def _piece(raw: bytes) -> Piece:
    fields = dict(_fields(raw))
    text, score = fields.get(1, b""), fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a token has no text")
    return Piece(text.decode(), struct.unpack("<f", score)[0], int(fields.get(3, 1)))


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of a message: whole numbers, or the bytes of anything else."""
    position = 0
    while position < len(raw):
        key, position = _varint(raw, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(raw, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(raw, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > len(raw):
            raise ValueError("it is truncated")
        yield number, raw[position : position + size]
        position += size


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has no end")
