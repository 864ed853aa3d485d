"""Reading server-sent events back."""

from __future__ import annotations

import json
from typing import Any

from localllm.llm import ChatEvent
from localllm.server.wire.base import Reply


def events_of(stream: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and the data of a stream's events."""
    events = []
    for block in stream.decode().split("\n\n"):
        if block:
            name, data = block.split("\n")
            events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def streamed(reply: Reply, *events: ChatEvent) -> list[tuple[str, dict[str, Any]]]:
    """Return what a reply makes of events."""
    return events_of(b"".join([*map(reply.accept, events), reply.end()]))
