"""The server's log: a file, so that it outlives both of us."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localllm.printable import marked

MAX_LINES = 1000
MAX_TAIL_BYTES = 256 << 10
"""A log that was not looked at for long is read from this far before its end."""
LEVELS = ("debug", "info", "warning", "error")
_MAX_CHARS = 500
_FACTS = ("time", "level", "logger", "message")
_NAMES = {"critical": "error", "fatal": "error"}


@dataclass(frozen=True)
class LogLine:
    """One thing that happened."""

    time: str
    """Of day, UTC; "" for what is no line of a log, such as a library's own words."""
    level: str
    """Of LEVELS."""
    text: str


class LogTail:
    """The end of a log that grows.

    Args:
        path: need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self.n_read = 0
        """Lines since the beginning: those that `lines` forgot are counted."""
        self._at = 0
        self._rest = b""

    def read(self) -> bool:
        """Read what is new; whether there was something. Files are slow: call it on a thread."""
        try:
            size = self.path.stat().st_size
            if size < self._at:
                self._at, self._rest = 0, b""
            self._at = max(self._at, size - MAX_TAIL_BYTES)
            with self.path.open("rb") as file:
                file.seek(self._at)
                data = file.read(MAX_TAIL_BYTES)
        except OSError:
            return False
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            for line in parse_line(raw):
                self.lines.append(line)
                self.n_read += 1
        return bool(whole)

    def last_words(self, n: int) -> list[str]:
        """Return the texts of the last lines."""
        return [line.text for line in list(self.lines)[-n:]]


def parse_line(raw: bytes) -> Iterator[LogLine]:
    """Yield what a line of the log says, and where an error was raised."""
    text = raw.decode("utf-8", "replace").rstrip()
    if not text:
        return
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "message" not in found:
        level = "error" if text.lower().startswith("error") else "info"
        yield LogLine("", level, _shown(text))
        return
    level = str(found.get("level", "info")).lower()
    level = _NAMES.get(level, level if level in LEVELS else "info")
    facts = "".join(f" {name}={_fact(value)}" for name, value in found.items() if name not in (*_FACTS, "exception"))
    time = str(found.get("time", ""))[11:19]
    yield LogLine(_shown(time), level, _shown(f"{found['message']}{facts}"))
    for line in str(found.get("exception") or "").splitlines():
        yield LogLine("", level, _shown(f"  {line}"))


def _fact(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown(text: str) -> str:
    return marked(text[:_MAX_CHARS]).replace("\n", " ").replace("\t", " ")
