"""Reading a call that is one JSON object: {"name": ..., "arguments": {...}}, as it comes."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Literal

from localllm.chat.formats.json_scanner import JsonScanner

_ARGUMENTS = ("arguments", "parameters")
_IDS = ("id", "call_id")
_OTHERS = ("type",)
_SPACE = " \t\n\r"

_Place = Literal["start", "first_key", "key", "in_key", "colon", "value", "in_value", "after", "done", "failed"]


class CallReader:
    """Takes a call's object piece by piece.

    It fails at the first character that is not of a call: no JSON, a key that calls do not have, an unknown function,
    arguments that are no object. Arguments in a string, as some models write them, are taken out of it.

    Args:
        names: the functions that may be called.
        name_first: fail unless the name is the first key.
    """

    def __init__(self, names: Collection[str], *, name_first: bool = False) -> None:
        self._names = names
        self._name_first = name_first
        self._place: _Place = "start"
        self._scanner = JsonScanner()
        self._key = ""
        self._raw = ""
        self._is_object = False
        self._held = ""
        self._keys: set[str] = set()
        self._has_arguments = False
        self.name: str | None = None
        """The function, once it is known."""
        self.id: str | None = None
        """What the model calls the call, if that came before the name; later the call has been announced already."""

    @property
    def done(self) -> bool:
        """Whether the object is complete, and a call."""
        return self._place == "done"

    @property
    def failed(self) -> bool:
        """Whether this is no call."""
        return self._place == "failed"

    @property
    def has_arguments(self) -> bool:
        """Whether the arguments are complete, whatever became of the object."""
        return self._has_arguments

    def take_arguments(self) -> str:
        """Return the next piece of the arguments; "" until the function is known."""
        if self.name is None:
            return ""
        held, self._held = self._held, ""
        return held

    def feed(self, text: str) -> int:
        """Take `text`, and return where it stopped: at the end of the text or of the object, or at an error."""
        at = 0
        while at < len(text) and self._place not in ("done", "failed"):
            at = self._step(text, at)
        return at

    def _step(self, text: str, at: int) -> int:
        if self._place in ("in_key", "in_value"):
            return self._read(text, at)
        char = text[at]
        if char in _SPACE:
            return at + 1
        if self._place == "value":
            return self._begin_value(char, at)
        if self._place in ("first_key", "key") and char == '"':
            self._place, self._scanner, self._raw, self._is_object = "in_key", JsonScanner(), "", False
            return at
        self._punctuation(char)
        return at if self.failed else at + 1

    def _punctuation(self, char: str) -> None:
        place = self._place
        if place == "start" and char == "{":
            self._place = "first_key"
        elif place == "colon" and char == ":":
            self._place = "value"
        elif place == "after" and char == ",":
            self._place = "key"
        elif place == "after" and char == "}" and self.name is not None:
            self._place = "done"
            if _ARGUMENTS[0] not in self._keys:
                self._held = "{}"
        else:
            self._place = "failed"

    def _begin_value(self, char: str, at: int) -> int:
        self._is_object = self._key in _ARGUMENTS and char == "{"
        self._place = "in_value" if char == '"' or self._is_object else "failed"
        self._scanner, self._raw = JsonScanner(), ""
        return at

    def _read(self, text: str, at: int) -> int:
        """Go on with a key or a value."""
        end = self._scanner.feed(text, at)
        if self._is_object:
            self._held += text[at:end]
        else:
            self._raw += text[at:end]
        if self._scanner.failed:
            self._place = "failed"
        elif self._scanner.done:
            self._complete()
        return end

    def _complete(self) -> None:
        if self._place == "in_key":
            self._key = self._raw[1:-1]
            self._place = "colon" if self._is_new(self._key) else "failed"
            return
        self._place = "after"
        if self._key == "name":
            # Compared as it is spelled: a grammar that watches for calls knows no other spelling.
            self.name = self._raw[1:-1] if self._raw[1:-1] in self._names else None
            if self.name is None:
                self._place = "failed"
        elif self._key in _IDS and self.name is None:
            self.id = json.loads(self._raw)
        elif self._key in _ARGUMENTS:
            self._has_arguments = True
            if not self._is_object:
                self._unpack(json.loads(self._raw))

    def _is_new(self, key: str) -> bool:
        """Whether a call may have this key, and has not had it yet."""
        if self._name_first and not self._keys and key != "name":
            return False
        kind = _ARGUMENTS[0] if key in _ARGUMENTS else key
        if kind in self._keys or kind not in ("name", _ARGUMENTS[0], *_IDS, *_OTHERS):
            return False
        self._keys.add(kind)
        return True

    def _unpack(self, text: str) -> None:
        """Take arguments that came in a string."""
        inner = JsonScanner()
        if text.startswith("{") and inner.feed(text) == len(text) and inner.done:
            self._held += text
        else:
            self._place = "failed"
