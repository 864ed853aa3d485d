"""What the worker and its client say to each other: msgpack frames, each after its length, over the worker's pipes."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from localllm.engine.events import ErrorInfo, FinishEvent, PrefillProgress, TokenEvent
from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import VectorsEvent
from localllm.errors import RequestError
from localllm.hardware.types import LoadOptions
from localllm.runtime.backend import EmbedRequest, ModelInfo, RankRequest, TextControls

_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 1 << 30


class Load(msgspec.Struct, tag="load"):
    path: bytes
    """In the file system's encoding, since a file name need not be text."""
    options: LoadOptions


class Submit(msgspec.Struct, tag="submit"):
    request_id: int
    request: GenerationRequest
    controls: TextControls


class Embed(msgspec.Struct, tag="embed"):
    request_id: int
    request: EmbedRequest


class Rank(msgspec.Struct, tag="rank"):
    request_id: int
    request: RankRequest


class Cancel(msgspec.Struct, tag="cancel"):
    request_id: int


class Tokenize(msgspec.Struct, tag="tokenize"):
    call_id: int
    text: str
    add_special: bool
    parse_special: bool


class Detokenize(msgspec.Struct, tag="detokenize"):
    call_id: int
    tokens: tuple[int, ...]


class GetStats(msgspec.Struct, tag="stats"):
    call_id: int


class LoadProgress(msgspec.Struct, tag="load_progress"):
    share: float


class Loaded(msgspec.Struct, tag="loaded"):
    info: ModelInfo


class LoadFailed(msgspec.Struct, tag="load_failed"):
    error: ErrorInfo


class Reply(msgspec.Struct, tag="reply"):
    """The answer to a call; `call_id` is the request's id where a submission is answered."""

    call_id: int
    error: ErrorInfo | None = None
    tokens: list[int] | None = None
    data: bytes = b""
    stats: EngineStats | None = None


ToWorker = Load | Submit | Embed | Rank | Cancel | Tokenize | Detokenize | GetStats
FromWorker = LoadProgress | Loaded | LoadFailed | Reply | PrefillProgress | TokenEvent | FinishEvent | VectorsEvent


def _encode_path(value: Any) -> bytes:
    """Write a path, which msgpack does not know, in the file system's encoding, since it need not be text."""
    if isinstance(value, Path):
        return os.fsencode(value)
    raise NotImplementedError(f"{type(value).__name__} cannot be sent")


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, bytes):
        return Path(os.fsdecode(value))
    raise NotImplementedError(f"{kind.__name__} cannot be read")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
to_worker_decoder = msgspec.msgpack.Decoder(ToWorker, dec_hook=_decode_path)
from_worker_decoder = msgspec.msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker) -> bytes:
    """Return the message as bytes, its length first. Lone surrogates, which have no UTF-8 form, become "?".

    Raises:
        RequestError: the message is too long to send, or a number in it too large.
    """
    try:
        body = _encoder.encode(message)
    except OverflowError as error:
        raise RequestError("A number is too large.", hint="Integers have 64 bits at most.") from error
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, builtin_types=(bytes,), str_keys=False, enc_hook=_encode_path)
        body = _encoder.encode(_encodable(plain))
    if len(body) > MAX_FRAME_BYTES:
        raise RequestError(f"{len(body):,} bytes at once; {MAX_FRAME_BYTES:,} are allowed.", hint="Send less.")
    return _LENGTH.pack(len(body)) + body


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read one message's bytes; None at the end of the stream, also in the middle of a frame.

    Raises:
        ValueError: the length is absurd, so this is not our protocol.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes")
    body = stream.read(size)
    return body if len(body) == size else None
