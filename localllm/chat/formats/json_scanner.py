"""JSON read as it comes: where a value ends, and whether it is one."""

from __future__ import annotations

import re
from typing import Literal

_SPACE = " \t\n\r"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_CHARS = frozenset("+-.0123456789eE")
_STRING_RUN = re.compile(r'[^"\\\x00-\x1f]+')
_HEX = frozenset("0123456789abcdefABCDEF")
_LITERALS = {"t": "true", "f": "false", "n": "null"}
_MAX_DEPTH = 256

_Place = Literal["value", "first_item", "first_key", "key", "colon", "after", "string", "number", "literal"]


class JsonScanner:
    """Takes one JSON value piece by piece. Strict: what it takes whole, `json.loads` reads."""

    __slots__ = ("_escape", "_is_key", "_place", "_stack", "_word", "failed")

    def __init__(self) -> None:
        self._place: _Place = "value"
        self._stack: list[str] = []
        self._is_key = False
        self._escape = 0
        self._word = ""
        self.failed = False
        """Whether a character came that no JSON has there."""

    @property
    def done(self) -> bool:
        """Whether the value is complete. A number is, as soon as a character came that is not of it."""
        return self._place == "after" and not self._stack and not self.failed

    def feed(self, text: str, start: int = 0) -> int:
        """Take `text` from `start` on, and return where it stopped: at an end, or an error."""
        at = start
        while at < len(text) and not self.failed and not self.done:
            at = self._step(text, at)
        return at

    def finish(self) -> bool:
        """Say that nothing follows, and return whether the value is complete."""
        if self._place == "number":
            self._end_number()
        return self.done

    def _step(self, text: str, at: int) -> int:
        if self._place == "string":
            return self._string(text, at)
        char = text[at]
        if self._place == "number":
            if char in _NUMBER_CHARS:
                self._word += char
                return at + 1
            self._end_number()
            return at
        if self._place == "literal":
            return self._literal(char, at)
        if char in _SPACE:
            return at + 1
        self._token(char)
        return at if self.failed else at + 1

    def _token(self, char: str) -> None:
        """Take a character that is neither blank nor within a string, a number or a literal."""
        place = self._place
        if place == "colon" and char == ":":
            self._place = "value"
        elif place in ("first_key", "key") and char == '"':
            self._place, self._is_key = "string", True
        elif char in "}]" and place in ("after", "first_key", "first_item") and self._stack[-1:] == [char]:
            self._stack.pop()
            self._place = "after"
        elif place == "after" and char == ",":
            self._place = "key" if self._stack[-1] == "}" else "value"
        elif place in ("value", "first_item"):
            self._open_value(char)
        else:
            self.failed = True

    def _open_value(self, char: str) -> None:
        if char == '"':
            self._place, self._is_key = "string", False
        elif char in "{[" and len(self._stack) < _MAX_DEPTH:
            self._stack.append("}" if char == "{" else "]")
            self._place = "first_key" if char == "{" else "first_item"
        elif char in "-0123456789":
            self._place, self._word = "number", char
        elif char in _LITERALS:
            self._place, self._word = "literal", _LITERALS[char][1:]
        else:
            self.failed = True

    def _string(self, text: str, at: int) -> int:
        if self._escape:
            return self._escaped(text[at], at)
        run = _STRING_RUN.match(text, at)
        if run is not None:
            return run.end()
        if text[at] == "\\":
            self._escape = -1
        elif text[at] == '"':
            self._place = "colon" if self._is_key else "after"
        else:
            self.failed = True
            return at
        return at + 1

    def _escaped(self, char: str, at: int) -> int:
        if self._escape > 0:
            self._escape -= 1
            self.failed = char not in _HEX
        elif char == "u":
            self._escape = 4
        else:
            self._escape = 0
            self.failed = char not in '"\\/bfnrt'
        return at if self.failed else at + 1

    def _literal(self, char: str, at: int) -> int:
        if not self._word.startswith(char):
            self.failed = True
            return at
        self._word = self._word[1:]
        if not self._word:
            self._place = "after"
        return at + 1

    def _end_number(self) -> None:
        self._place = "after"
        self.failed = not _NUMBER.fullmatch(self._word)
