"""models.toml as a file: read, found fault with by line, and a user's own merged over the one that is shipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localllm.errors import RequestError
from localllm.hub.catalog_entry import CatalogEntry
from localllm.hub.catalog_fields import NAME, FieldError, entry_of
from localllm.text_files import read_text

HINT = "docs/models.md says what a models.toml may hold."

_HEADER = re.compile(r"""\s*\[\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*(?:\.\s*([\w-]+)\s*)?\]""")

_TABLES = ("sampling", "files")
"""What is merged key by key."""


def read_tables(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a file's text, and its entries, which are not checked.

    Raises:
        RequestError: it cannot be read, or is not TOML; the message has the line.
    """
    # tomllib costs 12 ms to import, and only those who ask for a name need it.
    import tomllib

    text = read_text(path)
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{path} is not TOML: {error}.", hint=HINT) from error


def checked_entry(path: Path, text: str, name: str, table: object) -> CatalogEntry:
    """Return one entry of a file.

    Args:
        path: the file, for messages; `text` is what is in it.
        name: the entry's name.
        table: its fields, merged.

    Raises:
        RequestError: it breaks a rule; the message names the file, the line, the entry and the field.
    """
    try:
        if not NAME.fullmatch(name):
            raise FieldError(name, "is no name for a model: lower-case letters, digits, and . _ - between them")
        if not isinstance(table, dict):
            raise FieldError(name, "must be a table of fields")
        return entry_of(name, table)
    except FieldError as error:
        line = line_of(text, name, error.field)
        where = f"{path}, line {line}" if line else f"{path}"
        raise RequestError(f"{where}: {_entry(name, error)}.{_about_dots(name, table)}", hint=HINT) from None


def merged(base: Mapping[str, Any] | None, own: object) -> object:
    """Return an entry of the shipped catalog with the fields of the user's over it.

    Another repository has other files: with `repo`, the files that are shipped go.
    """
    if base is None or not isinstance(own, dict):
        return own
    kept = dict(base)
    if own.get("repo", base["repo"]) != base["repo"]:
        kept.pop("files", None)
    for key, value in own.items():
        is_table = key in _TABLES and isinstance(value, dict)
        kept[key] = {**kept.get(key, {}), **value} if is_table else value
    return kept


def line_of(text: str, name: str, field: str) -> int | None:
    """Return the line, from 1, on which a file sets a field of an entry; else the entry's first; None without one.

    Args:
        text: of the file.
        name: the entry's.
        field: as `FieldError.field`.
    """
    parts = field.split(".")
    table, key = (parts[0], parts[1]) if parts[0] in _TABLES and len(parts) > 1 else ("", field)
    setting = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
    here, first = ("", ""), None
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _HEADER.match(line):
            here = (found[1] or found[2] or found[3], found[4] or "")
            first = first or (number if here[0] == name else None)
        elif here == (name, table) and setting.match(line):
            return number
    return first


def _entry(name: str, error: FieldError) -> str:
    from localllm.gguf.problems import printable

    return str(error) if error.field == name else f"{printable(name)}: {error}"


def _about_dots(name: str, table: object) -> str:
    """Return what to say of [qwen3.5-4b], which TOML reads as the table 5-4b in the table qwen3."""
    if not isinstance(table, dict) or not table or not all(isinstance(value, dict) for value in table.values()):
        return ""
    inner = next(iter(table))
    return "" if inner in _TABLES else f' A name with a dot is written in quotes: ["{name}.{inner}"].'
