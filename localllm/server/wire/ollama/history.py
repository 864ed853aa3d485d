"""`context`: a conversation as a list of numbers, which /api/generate gives and takes back.

Ollama puts token ids there, and appends the next turn's to them. Here it is the conversation's text, so the next turn
is rendered by the model's template as a whole, and may be answered by another model.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec

from localllm.server.errors import BadRequest

_MARK = 0x6C6C6D
"""The first number; no vocabulary has so many tokens."""
_BYTES_EACH = 3
MAX_BYTES = 16 << 20

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(list[dict[str, str]])


def pack(messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Return a conversation of roles and texts as numbers below 2**24."""
    data = zlib.compress(_encoder.encode(messages))
    padded = data + b"\0" * (-len(data) % _BYTES_EACH)
    numbers = [int.from_bytes(padded[i : i + _BYTES_EACH], "big") for i in range(0, len(padded), _BYTES_EACH)]
    return [_MARK, len(data), *numbers]


def unpack(numbers: Sequence[int]) -> list[dict[str, str]]:
    """Return the conversation.

    Raises:
        BadRequest: the numbers are not from `pack`.
    """
    if not numbers:
        return []
    if len(numbers) < 3 or numbers[0] != _MARK or not all(0 <= number < 1 << 24 for number in numbers):
        raise _not_ours()
    data = b"".join(number.to_bytes(_BYTES_EACH, "big") for number in numbers[2:])[: numbers[1]]
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_BYTES)
        if not inflater.eof:
            raise _not_ours()
        return _decoder.decode(text)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_ours() from error


def _not_ours() -> BadRequest:
    return BadRequest(
        "context is not one that this server has given.",
        param="context",
        hint="Send the context of the answer before, unchanged, or use /api/chat with messages.",
    )
