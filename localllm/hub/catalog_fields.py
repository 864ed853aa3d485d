"""The rules of models.toml: what each field may be. A rule that is broken is a FieldError that names the field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from localllm.hub.catalog_entry import KINDS, CatalogEntry, CatalogFile, Sampling
from localllm.hub.file_names import is_model, shard_of

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_TAG = re.compile(r"[A-Z0-9][A-Z0-9_]*")
_SIZE = re.compile(r"(\d{1,4}(?:\.\d)?) (MiB|GiB)")
_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}

MAX_BYTES = 1 << 44
"""16 TiB: more is a slip of the pen."""


class FieldError(ValueError):
    """A field is not what it must be.

    Args:
        field: the field's name, with that of its table before it, as "files.Q4_K_M.size".
        reason: what is wrong, as the end of a sentence that begins with the field.
    """

    def __init__(self, field: str, reason: str) -> None:
        # What checks a file's words is imported only when there is something wrong with them.
        from localllm.gguf.problems import printable

        super().__init__(f"{printable(field)} {reason}")
        self.field = field


def entry_of(name: str, table: Mapping[str, Any]) -> CatalogEntry:
    """Return the entry that a table describes.

    Raises:
        FieldError: a field is unknown, missing or not allowed, or two do not go together.
    """
    _check_keys(table, (*_RULES, "sampling", "files"))
    for required in ("kind", "repo"):
        if required not in table:
            raise FieldError(required, "is missing")
    values = {key: _checked(key, rule, table[key]) for key, rule in _RULES.items() if key in table}
    values.setdefault("title", name)
    entry = CatalogEntry(
        name, **values, sampling=_sampling(table.get("sampling", {})), files_by_tag=_files(table.get("files", {}))
    )
    _check_together(entry)
    return entry


def _check_together(entry: CatalogEntry) -> None:
    """Refuse numbers that no model has together."""
    if entry.n_params and entry.n_active_params and entry.n_active_params > entry.n_params:
        raise FieldError("n_active_params", f"is {entry.n_active_params:,}, more than n_params, {entry.n_params:,}")
    if entry.n_heads and entry.n_kv_heads and entry.n_heads % entry.n_kv_heads:
        raise FieldError("n_kv_heads", f"is {entry.n_kv_heads}, which does not divide n_heads, {entry.n_heads}")


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str = "") -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            guess = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
            raise FieldError(where + key, f"is no field of the catalog{guess}")


def _checked(field: str, rule: Callable[[Any], Any], value: object) -> Any:
    try:
        return rule(value)
    except ValueError as error:
        shown = repr(value)
        raise FieldError(field, f"is {shown if len(shown) <= 60 else shown[:57] + '...'}; it must be {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 120 or not value.isprintable():
        raise ValueError("a line of text, at most 120 characters")
    return value


def _kind(value: object) -> str:
    if value not in KINDS:
        raise ValueError(f"one of {', '.join(KINDS)}")
    return str(value)


def _repo(value: object) -> str:
    if not isinstance(value, str) or not _REPO.fullmatch(value):
        raise ValueError("a repository of the hub, as org/name")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _integer(low: int, high: int) -> Callable[[object], int]:
    def rule(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a whole number from {low:,} to {high:,}")
        return value

    return rule


def _number(low: float, high: float) -> Callable[[object], float]:
    def rule(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(value)

    return rule


_RULES: dict[str, Callable[[Any], Any]] = {
    "title": _text,
    "kind": _kind,
    "repo": _repo,
    "good_at": _text,
    "license": _text,
    "gated": _boolean,
    "n_params": _integer(100_000, 10**13),
    "n_active_params": _integer(100_000, 10**13),
    "n_layers": _integer(1, 1024),
    "n_heads": _integer(1, 1024),
    "n_kv_heads": _integer(1, 1024),
    "head_dim": _integer(1, 4096),
    "n_embd": _integer(1, 1 << 17),
    "n_ctx": _integer(1, 1 << 27),
}

_SAMPLING: dict[str, Callable[[Any], Any]] = {
    "temperature": _number(0, 100),
    "top_p": _number(0, 1),
    "top_k": _integer(0, 1 << 20),
    "min_p": _number(0, 1),
    "repeat_penalty": _number(0.1, 10),
    "presence_penalty": _number(-10, 10),
}


def _sampling(table: object) -> Sampling:
    if not isinstance(table, dict):
        raise FieldError("sampling", "must be a table")
    _check_keys(table, tuple(_SAMPLING), "sampling.")
    return Sampling(**{key: _checked(f"sampling.{key}", _SAMPLING[key], value) for key, value in table.items()})


def _files(table: object) -> dict[str, tuple[CatalogFile, ...]]:
    if not isinstance(table, dict):
        raise FieldError("files", "must be a table")
    return {tag: _parts(tag, value) for tag, value in table.items()}


def _parts(tag: str, value: object) -> tuple[CatalogFile, ...]:
    """Return the file of a quantization, or its parts, which must be all and in order."""
    where = f"files.{tag}"
    if not _TAG.fullmatch(tag):
        raise FieldError(where, "is no quantization; write it as Q4_K_M")
    tables = value if isinstance(value, list) else [value]
    files = tuple(_file(where, table) for table in tables)
    shards = [shard_of(file.path) for file in files]
    indices = [shard.index for shard in shards if shard]
    n_parts = max([shard.count for shard in shards if shard], default=1)
    if len(files) != n_parts or (indices and indices != [*range(1, n_parts + 1)]):
        raise FieldError(where, f"must list the parts of the model in order: all {n_parts}")
    return files


def _file(where: str, table: object) -> CatalogFile:
    if not isinstance(table, dict):
        raise FieldError(where, "must be a table, as { path = ..., size_bytes = ... }")
    _check_keys(table, ("path", "size_bytes", "size"), f"{where}.")
    if "path" not in table or ("size" in table) == ("size_bytes" in table):
        raise FieldError(where, "must have a path, and either size_bytes or size")
    path = _checked(f"{where}.path", _path, table["path"])
    if "size" in table:
        return CatalogFile(path, _checked(f"{where}.size", _size, table["size"]), is_exact=False)
    n_bytes = _checked(f"{where}.size_bytes", _integer(1, MAX_BYTES), table["size_bytes"])
    return CatalogFile(path, n_bytes, is_exact=True)


def _path(value: object) -> str:
    is_inside = isinstance(value, str) and value.isprintable() and not {"", ".", ".."} & {*value.split("/")}
    if not isinstance(value, str) or not is_inside or not is_model(value):
        raise ValueError("the path of a .gguf file in the repository")
    return value


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError('a size as "4.7 GiB" or "610.5 MiB"; to the byte, write size_bytes')
    return round(float(found[1]) * _UNITS[found[2]])
