"""Text of models, files and servers, without what commands a terminal."""

from __future__ import annotations

_KEPT = "\n\t"
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in _KEPT}


def harmless(text: str) -> str:
    """Return `text` without the control characters by which it could command a terminal."""
    return text.translate(_CONTROLS)
