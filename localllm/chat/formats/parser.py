"""Reading a model's output as it comes: the machinery that the parsers of all families share.

A parser is a state machine over a buffer. Text leaves the buffer as soon as it is sure what it is: nothing that may be
the beginning of a marker is emitted, and a call is announced once its function is known. What turns out to be no call
after all is content, word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from localllm.chat.formats.events import CallDelta, CallEnd, Content, FormatEvent, Reasoning
from localllm.chat.formats.json_scanner import JsonScanner


@dataclass(frozen=True)
class ThinkingTags:
    """The texts around what a model thinks before it answers."""

    start: str
    end: str


class StreamParser:
    """Splits reasoning from content; the parsers of families add calls.

    Args:
        tags: around the reasoning; None where the model does not think.
        is_thinking: whether the prompt has opened the reasoning already.
        names: the functions that may be called; a call of another is content.
    """

    def __init__(self, tags: ThinkingTags | None, *, is_thinking: bool = False, names: Collection[str] = ()) -> None:
        self._tags = tags
        self._names = names
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._events: list[FormatEvent] = []
        self._n_calls = 0
        self._arguments = JsonScanner()
        self._after_arguments: Callable[[], bool] = self._answer
        # A state looks at the buffer and returns whether it got anywhere; if not, it waits for more.
        self._state: Callable[[], bool] = self._answer if tags is None else self._opening
        if is_thinking and tags is not None:
            self._state = self._thinking_begins

    @property
    def is_thinking(self) -> bool:
        """Whether the output so far ends within the reasoning."""
        return self._state in (self._thinking_begins, self._thinking)

    def feed(self, text: str) -> list[FormatEvent]:
        """Take the next text and return what it makes sure."""
        self._buffer += text
        return self._run()

    def flush(self) -> list[FormatEvent]:
        """Say that the output has ended, and return the rest."""
        self._ended = True
        return self._run()

    def _run(self) -> list[FormatEvent]:
        while self._state():
            pass
        events, self._events = self._events, []
        return events

    # States of reasoning.

    def _opening(self) -> bool:
        assert self._tags is not None
        text = self._buffer.lstrip()
        if text.startswith(self._tags.start):
            self._drop(len(self._buffer) - len(text) + len(self._tags.start))
            return self._go(self._thinking_begins)
        if self._tags.start.startswith(text) and not self._ended:
            return False
        return self._go(self._answer)

    def _thinking_begins(self) -> bool:
        """Leave out the blanks before the reasoning, and a start tag that repeats the prompt's."""
        assert self._tags is not None
        text = self._buffer.lstrip()
        if self._tags.start.startswith(text) and not self._ended:
            return False
        self._drop(len(self._buffer) - len(text))
        if text.startswith(self._tags.start):
            self._drop(len(self._tags.start))
            return True
        return self._go(self._thinking)

    def _thinking(self) -> bool:
        assert self._tags is not None
        if self._text_before([self._tags.end], self._think) is None:
            return False
        self._drop_blanks()
        self._drop(len(self._tags.end))
        return self._go(self._answer_begins)

    def _answer_begins(self) -> bool:
        self._drop_blanks()
        return bool(self._buffer) and self._go(self._answer)

    def _answer(self) -> bool:
        """The state of content; families with calls look for them here."""
        self._say(len(self._buffer))
        return False

    # What states are made of.

    def _go(self, state: Callable[[], bool]) -> bool:
        self._state = state
        return True

    def _drop(self, n: int) -> str:
        dropped, self._buffer = self._buffer[:n], self._buffer[n:]
        self._at += n
        return dropped

    def _drop_blanks(self) -> None:
        self._drop(len(self._buffer) - len(self._buffer.lstrip()))

    def _say(self, n: int) -> None:
        if n:
            start = self._at
            self._events.append(Content(self._drop(n), start, self._at))

    def _think(self, n: int) -> None:
        if n:
            start = self._at
            self._events.append(Reasoning(self._drop(n), start, self._at))

    def _text_before(self, markers: Iterable[str], emit: Callable[[int], None]) -> str | None:
        """Emit the text before the first of `markers`, and return the marker that the buffer begins with then.

        Blanks before a marker stay in the buffer, before it. Without a marker, what may begin one stays, unless the
        output has ended.
        """
        found = first_of(self._buffer, markers)
        if found is not None:
            emit(len(self._buffer[: found[0]].rstrip()))
            return found[1]
        emit(len(self._buffer) if self._ended else n_before_partial(self._buffer, markers))
        return None

    # Calls.

    def _begin_call(self, start: int, name: str, call_id: str | None = None) -> None:
        self._events.append(CallDelta(self._n_calls, name, call_id, "", start, self._at))
        self._n_calls += 1
        self._arguments = JsonScanner()

    def _more_arguments(self, text: str, start: int, end: int) -> None:
        if text:
            self._events.append(CallDelta(self._n_calls - 1, None, None, text, start, end))

    def _end_call(self) -> None:
        self._events.append(CallEnd(self._n_calls - 1))

    def _reading_arguments(self) -> bool:
        """The state within the arguments of a call, a JSON object that stands alone."""
        n = self._arguments.feed(self._buffer)
        start = self._at
        self._more_arguments(self._drop(n), start, self._at)
        if self._arguments.done:
            self._end_call()
            return self._go(self._after_arguments)
        # What is no JSON from here on is content.
        return self._arguments.failed and self._go(self._answer)


def first_of(text: str, markers: Iterable[str]) -> tuple[int, str] | None:
    """Return where the first of `markers` in `text` begins, and which it is; of several there, the longest."""
    found = [(text.find(marker), -len(marker), marker) for marker in markers if marker in text]
    if not found:
        return None
    start, _, marker = min(found)
    return start, marker


def n_before_partial(text: str, markers: Iterable[str]) -> int:
    """Return how much of `text` comes before blanks at its end and what may be the beginning of one of `markers`."""
    n = len(text)
    longest = max((len(marker) for marker in markers), default=1) - 1
    for k in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-k:]) for marker in markers):
            n = len(text) - k
            break
    return len(text[:n].rstrip())
