"""Events as a model would give them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from localllm.engine.events import Timings, TokenLogprob, Usage
from localllm.llm.events import ChatEvent, Done, TokenChoice
from localllm.server.wire.base import Reply

TIMINGS = Timings(queue_s=0.0, ttft_s=0.3, prefill_s=0.25, decode_s=0.5, prefill_tok_s=40.0, decode_tok_s=12.0)


def done(text: str = "", **changes: Any) -> Done:
    """The end of a completion: 10 prompt tokens, 4 of them reused, 7 generated ones."""
    values: dict[str, Any] = {
        "text": text,
        "finish_reason": "stop",
        "usage": Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=4),
        "timings": TIMINGS,
        "cause": "eos",
    }
    return Done(**(values | changes))


def choice(text: str, token: int = 1, *others: str) -> TokenChoice:
    """A token, and others in its place, each ten times less likely than the one before."""
    pieces = (text, *others)
    top = tuple(TokenLogprob(token + i, piece.encode(), -0.5 - 2.3 * i) for i, piece in enumerate(pieces))
    return TokenChoice(top[0], top if others else ())


def lines(reply: Reply, events: Sequence[ChatEvent]) -> list[dict[str, Any]]:
    """Return the JSON lines of a stream."""
    data = b"".join(reply.accept(event) for event in events) + reply.end()
    return [json.loads(line) for line in data.splitlines()]


def sse(reply: Reply, events: Sequence[ChatEvent]) -> list[dict[str, Any]]:
    """Return the JSON of server-sent events."""
    data = b"".join(reply.accept(event) for event in events) + reply.end()
    return [json.loads(part.removeprefix(b"data: ")) for part in data.split(b"\n\n") if part]


def whole(reply: Reply, events: Sequence[ChatEvent]) -> Any:
    """Return the answer to a request that is not streamed."""
    for event in events:
        reply.accept(event)
    return reply.body()
