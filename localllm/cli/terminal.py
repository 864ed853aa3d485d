"""Writing a model's words where a terminal may be listening."""

from __future__ import annotations

import sys

_KEPT = "\n\t"
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in _KEPT}


def harmless(text: str) -> str:
    """Return `text` without the control characters by which it could command a terminal."""
    return text.translate(_CONTROLS)


class TextOutput:
    """Streams an answer to stdout, and ends it with a line feed. Pipes get every character as it is."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._last = ""

    def write(self, text: str) -> None:
        """Write `text` now."""
        sys.stdout.write(harmless(text) if self._is_terminal else text)
        sys.stdout.flush()
        self._last = text or self._last

    def end(self) -> None:
        """End the line, if the text has not."""
        if not self._last.endswith("\n"):
            self.write("\n")
        self._last = ""
