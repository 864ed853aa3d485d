"""What tests of parsers share: feeding a text in pieces, and joining what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from localllm.chat.formats import CallDelta, CallEnd, Content, FormatEvent, Reasoning, StreamParser


@dataclass
class Read:
    """All that a parser made of an output."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Name and arguments."""
    ids: list[str | None] = field(default_factory=list)
    n_complete: int = 0

    @property
    def visible(self) -> str:
        return self.content + self.reasoning + "".join(name + arguments for name, arguments in self.calls)


def joined(events: Sequence[FormatEvent]) -> Read:
    read = Read()
    for event in events:
        match event:
            case Content():
                read.content += event.text
            case Reasoning():
                read.reasoning += event.text
            case CallDelta(name=str()):
                assert event.call_index == len(read.calls)
                read.calls.append((event.name, event.arguments))
                read.ids.append(event.id)
            case CallDelta():
                assert event.id is None and event.arguments
                name, arguments = read.calls[event.call_index]
                read.calls[event.call_index] = (name, arguments + event.arguments)
            case CallEnd():
                assert event.call_index == len(read.calls) - 1
                read.n_complete += 1
    return read


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    """Return `text` cut at the given places, which may be anything."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(places)]


def feed(parser: StreamParser, parts: Sequence[str]) -> list[FormatEvent]:
    events: list[FormatEvent] = []
    for part in parts:
        events += parser.feed(part)
    return events + parser.flush()


def read(parser: StreamParser, parts: Sequence[str] | str) -> Read:
    return joined(feed(parser, [parts] if isinstance(parts, str) else parts))
