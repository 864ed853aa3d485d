"""Stop strings: bytes for the engine, which ends a sequence, and text for what is shown of it."""

from __future__ import annotations

from collections.abc import Iterable

from localllm.errors import RequestError

MAX_STOPS = 64
MAX_STOP_CHARS = 4096


def _checked(stops: Iterable[str]) -> tuple[str, ...]:
    unique = tuple(dict.fromkeys(stops))
    if len(unique) > MAX_STOPS:
        raise RequestError(f"{len(unique)} stop strings, {MAX_STOPS} allowed.", hint="Keep the few that end a turn.")
    for stop in unique:
        if not stop:
            raise RequestError("A stop string is empty.", hint="Leave it out: every text contains it.")
        if len(stop) > MAX_STOP_CHARS:
            raise RequestError(
                f"A stop string has {len(stop)} characters, {MAX_STOP_CHARS} allowed.",
                hint="Its beginning is enough to stop on.",
            )
    return unique


class StopScanner:
    """Tells the engine when a stop string has been completed; an `engine.matchers.StopCondition`.

    Args:
        stops: strings of at least one character.

    Raises:
        RequestError: a stop string is empty or too long, or there are too many.
    """

    __slots__ = ("_found", "_n_keep", "_stops", "_tail")

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stop.encode("utf-8", "surrogatepass") for stop in _checked(stops))
        self._n_keep = max(map(len, self._stops), default=1) - 1
        self._tail = b""
        self._found = False

    def feed(self, piece: bytes) -> bool:
        """Take the next token's bytes; return True from the moment a stop string has been completed."""
        window = self._tail + piece
        for stop in self._stops:
            if stop in window:
                self._found = True
        self._tail = window[-self._n_keep :] if self._n_keep else b""
        return self._found


class StopFilter:
    """Lets text through up to the first completed stop string, and never any part of that string.

    What could be the beginning of a stop string is held back until it is known not to be one. Of two stop
    strings completed by the same character, the one that began first wins.

    Args:
        stops: strings of at least one character.

    Raises:
        RequestError: a stop string is empty or too long, or there are too many.
    """

    __slots__ = ("_held", "_n_longest", "_prefixes", "_stops", "matched")

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = _checked(stops)
        self._prefixes = frozenset(stop[:n] for stop in self._stops for n in range(1, len(stop)))
        self._n_longest = max(map(len, self._stops), default=1) - 1
        self._held = ""
        self.matched: str | None = None
        """The stop string that ended the text, once there is one."""

    def feed(self, delta: str) -> str:
        """Take the next text and return what may be shown now; always "" after a stop string."""
        if self.matched is not None:
            return ""
        text = self._held + delta
        start = self._find(text)
        if start is not None:
            self._held = ""
            return text[:start]
        n_held = self._n_ambiguous(text)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]

    def flush(self) -> str:
        """Return the text still held back, at the end of a generation that no stop string ended."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        """Return where the first completed stop string begins."""
        best: tuple[int, int] | None = None
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best = (start + len(stop), start)
                self.matched = stop
        return None if best is None else best[1]

    def _n_ambiguous(self, text: str) -> int:
        """Return the length of the longest suffix that begins a stop string."""
        for n in range(min(self._n_longest, len(text)), 0, -1):
            if text[-n:] in self._prefixes:
                return n
        return 0
