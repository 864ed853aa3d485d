"""Writing a model's words where a terminal may be listening."""

from __future__ import annotations

import sys

from localllm.printable import harmless


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
