"""Bytes of a stream: server-sent events, and lines of JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()

SSE_DONE = b"data: [DONE]\n\n"
SSE_KEEP_ALIVE = b": keep-alive\n\n"
SSE_TYPE = "text/event-stream"
NDJSON_TYPE = "application/x-ndjson"


def to_json(value: Any) -> bytes:
    """Return JSON as bytes; numbers that JSON has no name for become null, lone surrogates "?"."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True).encode("ascii")


def sse_data(value: Any) -> bytes:
    """Return one event without a name."""
    return b"data: " + to_json(value) + b"\n\n"


def sse_event(name: str, value: Any) -> bytes:
    """Return one event with a name, as Anthropic's and OpenAI's Responses API send them."""
    return b"event: " + name.encode("ascii") + b"\ndata: " + to_json(value) + b"\n\n"


def ndjson_line(value: Any) -> bytes:
    """Return one line of JSON."""
    return to_json(value) + b"\n"
