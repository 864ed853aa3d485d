"""Words of others, where a terminal may be listening: control characters could command it."""

from __future__ import annotations

_KEPT = "\n\t"
_CONTROLS = (*range(32), *range(127, 160))
_DROPPED = {code: None for code in _CONTROLS if chr(code) not in _KEPT}
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINE_ENDS = (0x2028, 0x2029)
_SURROGATES = range(0xD800, 0xE000)
_MARKS = {
    **{code: f"‹U+{code:04X}›" for code in (*range(127, 160), *_DIRECTIONS, *_LINE_ENDS)},
    **{code: chr(0x2400 + code) for code in range(32) if chr(code) not in _KEPT},
    **dict.fromkeys(_SURROGATES, "\N{REPLACEMENT CHARACTER}"),
}


def harmless(text: str) -> str:
    """Return `text` without the control characters by which it could command a terminal."""
    return text.translate(_DROPPED)


def marked(text: str) -> str:
    """Return `text` with a visible mark for each character that could command a terminal or turn its text around.

    A person who reads it sees that something is there: ␛ for an escape, ‹U+202E› for an override of direction. What
    no terminal can be sent, half of a surrogate pair, is �. Line feeds and tabs stay; "\\r\\n" is a line feed.
    """
    return text.replace("\r\n", "\n").translate(_MARKS)
