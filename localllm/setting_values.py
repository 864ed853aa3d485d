"""How the value of a setting is read from a flag, a variable or the file, and written for people and for the file.

A parser takes a text or a value of TOML, returns the value in its own type, and raises ValueError with what is allowed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

KV_TYPE_NAMES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_ENDPOINT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_BINDING = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_KEYS = re.compile(r"[^\s,=\x00-\x1f]+(,[^\s,=\x00-\x1f]+)*")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

Parse = Callable[[object], object]


def text(value: object) -> object:
    if isinstance(value, str) and "\0" not in value:
        return value
    raise ValueError("text")


def text_or_none(value: object) -> object:
    """Accept text, or the word "none", which becomes None."""
    return None if value == "none" else text(value)


def integer(low: int, high: int, *, none_is: str | None = None) -> Parse:
    """Accept an integer from `low` to `high`, or the word `none_is`, which becomes None."""
    allowed = f"an integer from {low} to {high}" + (f", or {none_is}" if none_is else "")

    def parse(value: object) -> object:
        if none_is and value == none_is:
            return None
        found = _as_integer(value)
        if found is None or not low <= found <= high:
            raise ValueError(allowed)
        return found

    return parse


def _as_integer(value: object) -> int | None:
    """Return an int or its decimal text as int; bool is no number here, and int() would take " 1_0 "."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # Longer texts are out of every range, and Python refuses to convert those of thousands of digits.
    if isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal():
        return int(value)
    return None


def number(low: float, high: float) -> Parse:
    allowed = f"a number from {low:g} to {high:g}"

    def parse(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(allowed)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError(allowed) from None
        if not low <= number <= high:
            raise ValueError(allowed)
        return number

    return parse


class Choice:
    """Accept one of some names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __call__(self, value: object) -> object:
        if isinstance(value, str) and value in self.names:
            return value
        near = get_close_matches(value.lower(), self.names, n=1) if isinstance(value, str) else []
        raise ValueError(f"one of {', '.join(self.names)}" + (f" (did you mean {near[0]}?)" if near else ""))


def gpu_layers(value: object) -> object:
    if value in ("auto", "all"):
        return value
    number = _as_integer(value)
    if number is None or not 0 <= number < 2**31:
        raise ValueError("auto, all, or an integer of 0 or more")
    return number


_one_kv_type = Choice(*KV_TYPE_NAMES, "auto")


def kv_type(value: object) -> object:
    """Accept one name for K and V, or two with a comma between."""
    parts = value.split(",") if isinstance(value, str) else [value]
    if len(parts) > 2:
        raise ValueError("one type for both, or K,V")
    for part in parts:
        _one_kv_type(part)
    return value


def kv_type_of_side(value: object) -> object:
    """Accept a name, or the word for what --kv-type says, which becomes None."""
    return None if value == "same" else _one_kv_type(value)


def endpoints(value: object) -> object:
    """Accept "host:port,host:port", or the word "none"."""
    if isinstance(value, tuple):
        return value
    if value == "none":
        return ()
    found = [part.strip() for part in value.split(",")] if isinstance(value, str) else [""]
    if not all(_ENDPOINT.fullmatch(part) and int(part.rpartition(":")[2]) < 1 << 16 for part in found):
        raise ValueError("HOST:PORT, several with commas, or none")
    return tuple(found)


def parse_size(value: object) -> int:
    """Return the bytes of a size such as "512MB" or "12 GiB"; units are powers of 1024.

    Raises:
        ValueError: it is no size; says what is allowed.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
    if found is None:
        raise ValueError("a size such as 512MB or 12GB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def folders(value: object) -> object:
    """Accept a list of folders, or a text with the system's separator of paths between them; ~ is one's home."""
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    allowed = f"folders, with {os.pathsep} between them, or a list of folders"
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError(allowed)
    return tuple(Path(os.path.abspath(os.path.expanduser(part))) for part in parts if part)


def size(*, zero_is: str) -> Parse:
    """Accept a size, or the word `zero_is`, which becomes 0."""

    def parse(value: object) -> object:
        try:
            return 0 if value == zero_is else parse_size(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {zero_is}") from None

    return parse


def keymap(value: object) -> object:
    """Accept a table of bindings and their keys, or a text such as "chat.new=f8 app.quit=ctrl+x"."""
    allowed = 'a table of lines like "chat.new" = "ctrl+n", or words like chat.new=ctrl+n'
    if isinstance(value, str):
        parts = [word.partition("=") for word in value.split()]
        if not all(separator for _, separator, _ in parts):
            raise ValueError(allowed)
        value = {name: keys for name, _, keys in parts}
    if not isinstance(value, Mapping):
        raise ValueError(allowed)
    return tuple(sorted(_flat(value, allowed)))


def _flat(table: Mapping[str, object], allowed: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a table's pairs; TOML reads the unquoted key chat.new as a table in a table."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, allowed, f"{prefix}{key}.")
        elif not isinstance(value, str) or not _KEYS.fullmatch(value) or not _BINDING.fullmatch(key):
            raise ValueError(allowed)
        else:
            yield prefix + key, value


def as_text(value: object, parse: Parse) -> str:
    """Return the text that `parse` reads as `value`; empty if no text does."""
    return next((text for text in _texts(value) if _reads(parse, text, value)), "")


def as_toml(value: object) -> str:
    """Return a value as TOML, a text of `as_text` or a number."""
    if isinstance(value, tuple):
        return f"[{', '.join(quoted(str(item)) for item in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    return quoted(str(value))


def quoted(text: str) -> str:
    """Return a text as a string of TOML."""
    # A JSON string is one of TOML, but for the one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(value: object) -> Iterator[str]:
    match value:
        case None:
            yield from ("auto", "none", "random", "same")
        case tuple():
            yield "none"
            yield os.pathsep.join(str(item) for item in value)
            yield ",".join(str(item) for item in value)
            yield " ".join("=".join(item) for item in value if isinstance(item, tuple))
        case float():
            yield f"{value:g}"
            yield repr(value)
        case int():
            yield "off"
            yield from (
                f"{value // size}{unit.upper()}B"
                for unit, size in reversed(_UNITS.items())
                if unit and value % size == 0
            )
            yield str(value)
        case _:
            yield str(value)


def _reads(parse: Parse, text: str, value: object) -> bool:
    try:
        return parse(text) == value
    except ValueError:
        return False
