"""What a parser of model output emits: typed pieces, each with the characters of the output that it came from."""

from __future__ import annotations

import msgspec


class Content(msgspec.Struct, frozen=True):
    """Text for the reader."""

    text: str
    start: int
    """Where it begins in the output, in characters."""
    end: int


class Reasoning(msgspec.Struct, frozen=True):
    """Text that the model thinks with."""

    text: str
    start: int
    end: int


class CallDelta(msgspec.Struct, frozen=True):
    """More of a tool call."""

    call_index: int
    """0 for the first call of the output."""
    name: str | None
    """The function's, in the first delta of a call; then None."""
    id: str | None
    """What the model called the call, in the first delta; most formats have no such thing."""
    arguments: str
    """The next piece of the arguments' JSON text."""
    start: int
    end: int


class CallEnd(msgspec.Struct, frozen=True):
    """A call's arguments are complete."""

    call_index: int


FormatEvent = Content | Reasoning | CallDelta | CallEnd
