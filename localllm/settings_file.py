"""Changes the settings file line by line, so that comments and whatever else people wrote in it stay.

file = SettingsFile()
file.set("n_ctx", "8192")              # a line n_ctx = 8192
file.set("chat.new", '"f8"', "keymap") # a line in the table [keymap]
file.set("n_ctx", None)                # no such line any more
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import RequestError
from localllm.setting_values import quoted
from localllm.text_files import replace_text

_HEADER = re.compile(r"\s*\[\[?(?P<name>[^\[\]]*)\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*(?P<key>\"(?:[^\"\\]|\\.)*\"|'[^']*'|[A-Za-z0-9_.-]+)\s*=")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class SettingsFile:
    """The file of settings as it was when it was last looked at.

    Args:
        file: None is `paths.config_file()`; it need not exist.

    Raises:
        RequestError: the file is not TOML, or cannot be read.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.path = paths.config_file() if file is None else file
        self._seen = self._tables(self._text())

    def look(self) -> None:
        """Take the file as it is now for known.

        Raises:
            RequestError: the file is not TOML, or cannot be read.
        """
        self._seen = self._tables(self._text())

    def set(self, key: str, literal: str | None, table: str | None = None) -> None:
        """Write the line of one key, in the place of the one that is there.

        Args:
            key: the setting, or the binding.
            literal: the value as TOML; None takes the line away.
            table: the table that the key is in; None is the top of the file.

        Raises:
            RequestError: another program changed this very key since it was looked at, or the file cannot be changed.
        """
        text = self._text()
        now = self._tables(text)
        if _value(now, key, table) != _value(self._seen, key, table):
            self._seen = now
            raise RequestError(
                f"{key} was changed in {self.path} meanwhile.", hint="See what it says now, and change it again."
            )
        edited = _edited(text, key, literal, table)
        if _normal(self._tables(edited), table) != _expected(now, key, literal, table):
            raise RequestError(f"{self.path} cannot be changed line by line.", hint="Edit it by hand.")
        # A settings file is often a link into a folder that is kept elsewhere: the link stays.
        target = self.path.resolve()
        paths.ensure(target.parent)
        replace_text(target, edited)
        self._seen = self._tables(edited)

    def remove_table(self, table: str) -> None:
        """Take all lines of a table away.

        Raises:
            RequestError: as `set`.
        """
        self.look()
        for key in [*_flat(self._seen.get(table, {}))]:
            self.set(key, None, table)

    def _text(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise RequestError(f"Cannot read {self.path}: {reason}.", hint="Mend or remove the file.") from error

    def _tables(self, text: str) -> dict[str, Any]:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RequestError(f"{self.path} is not TOML: {error}.", hint="Mend or remove the file.") from error


def _edited(text: str, key: str, literal: str | None, table: str | None) -> str:
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    section = _section(lines, table)
    if section is None:
        if literal is None:
            return text
        gap = newline if lines else ""
        return f"{_ended(text, newline)}{gap}[{table}]{newline}{_line(key, literal, newline)}"
    begin, end = section
    for at in range(begin, end):
        if _key_of(lines[at]) == key and (n_lines := _length(lines[at:end])):
            comment = _comment("".join(lines[at : at + n_lines]))
            new = [] if literal is None else [_line(key, literal, newline, comment)]
            return "".join([*lines[:at], *new, *lines[at + n_lines :]])
    if literal is None:
        return text
    at = _place(lines, begin, end)
    before = _ended("".join(lines[:at]), newline)
    return f"{before}{_line(key, literal, newline)}{''.join(lines[at:])}"


def _section(lines: list[str], table: str | None) -> tuple[int, int] | None:
    """Return where the lines of a table begin and end; None if it has no header."""
    headers = [
        (at, found["name"].strip(" \"'"))
        for at, line in enumerate(lines)
        if (found := _HEADER.fullmatch(line.rstrip()))
    ]
    ends = [at for at, _ in headers] + [len(lines)]
    if table is None:
        return 0, ends[0]
    return next(((at + 1, end) for (at, name), end in zip(headers, ends[1:], strict=True) if name == table), None)


def _place(lines: list[str], begin: int, end: int) -> int:
    """Return where a new line goes: to the end of its table, but above the words over the next one's header."""
    at = end
    if end < len(lines):
        while at > begin and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
            at -= 1
    return at


def _key_of(line: str) -> str | None:
    found = _KEY.match(line)
    if found is None:
        return None
    key = found["key"]
    return str(next(iter(tomllib.loads(f"{key} = 0")))) if key[0] in "\"'" else key


def _length(lines: list[str]) -> int:
    """Return how many lines the value that begins in the first one takes; 0 if it never ends."""
    for n_lines in range(1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[:n_lines]))
        except tomllib.TOMLDecodeError:
            continue
        return n_lines
    return 0


def _comment(line: str) -> str:
    """Return what is said behind the value."""
    value = tomllib.loads(line)
    for at, character in enumerate(line):
        if character == "#" and "\n" not in line[at:].rstrip():
            try:
                if tomllib.loads(line[:at]) == value:
                    return line[at:].rstrip()
            except tomllib.TOMLDecodeError:
                continue
    return ""


def _line(key: str, literal: str, newline: str, comment: str = "") -> str:
    name = key if _BARE.fullmatch(key) else quoted(key)
    return f"{name} = {literal}{f'  {comment}' if comment else ''}{newline}"


def _ended(text: str, newline: str) -> str:
    return text if not text or text.endswith("\n") else text + newline


def _value(tables: Mapping[str, Any], key: str, table: str | None) -> object:
    return tables.get(key) if table is None else _flat(tables.get(table, {})).get(key)


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(table, Mapping):
        return {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _expected(tables: Mapping[str, Any], key: str, literal: str | None, table: str | None) -> dict[str, Any]:
    """Return what the file must say after the change, or the line was not what it seemed."""
    value = None if literal is None else tomllib.loads(f"value = {literal}")["value"]
    inner = dict(tables if table is None else _flat(tables.get(table, {})))
    if value is None:
        inner.pop(key, None)
    else:
        inner[key] = value
    return inner if table is None else _normal({**tables, table: inner}, table)


def _normal(tables: dict[str, Any], table: str | None) -> dict[str, Any]:
    """Return what the file says, however it says it: an empty table is none, and a.b is in the table a."""
    if table is None or table not in tables:
        return tables
    inner = _flat(tables[table])
    rest = {name: value for name, value in tables.items() if name != table}
    return {**rest, table: inner} if inner else rest
