"""ggml's type ids, by the names people use."""

from __future__ import annotations

from localllm.errors import RequestError

_TYPE_IDS = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}

KV_TYPES = tuple(_TYPE_IDS)
"""The types that llama.cpp can keep keys and values in."""


def ggml_type_id(name: str) -> int:
    """Return ggml's number for a KV type.

    Raises:
        RequestError: no such KV type.
    """
    try:
        return _TYPE_IDS[name.lower()]
    except KeyError:
        raise RequestError(f"{name!r} is not a KV type.", hint=f"Choose one of {', '.join(KV_TYPES)}.") from None
