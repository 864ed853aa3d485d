"""Server-sent events, as bytes come. Only their data matters here.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_EVENT_BYTES = 16 << 20
"""No event of an answer is longer; one that is would fill the memory."""


class EventTooLong(ValueError):
    """An event goes on and on."""


class SseParser:
    """Takes a stream in pieces, and gives the data of its events."""

    def __init__(self) -> None:
        self._pending = b""
        self._data: list[bytes] = []
        self._n_bytes = 0

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the data of each event that `piece` completes.

        Raises:
            EventTooLong: an event has more than MAX_EVENT_BYTES.
        """
        self._n_bytes += len(piece)
        if b"\n" not in piece:
            self._pending += piece
        else:
            *lines, self._pending = (self._pending + piece).split(b"\n")
            for line in lines:
                yield from self._line(line.removesuffix(b"\r"))
        if self._n_bytes > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES >> 20} MiB")

    def flush(self) -> Iterator[str]:
        """Yield the event that the end of the stream completes, if there is one."""
        yield from self._line(self._pending)
        yield from self._line(b"")
        self._pending = b""

    def _line(self, line: bytes) -> Iterator[str]:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return
        data, self._data, self._n_bytes = self._data, [], 0
        if data:
            yield b"\n".join(data).decode("utf-8", "replace")
