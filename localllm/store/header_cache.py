"""What headers said, remembered by path, size and time, so that a list of models opens no file twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import LocalLLMError
from localllm.store.facts import Facts, read_facts
from localllm.store.models import StoredModel

MAX_ENTRIES = 4096
"""Of the file; what was asked for longest ago goes first."""
_VERSION = 2
_FIELDS = frozenset(field.name for field in fields(Facts))


def facts_of(models: Sequence[StoredModel]) -> list[Facts]:
    """Return what the header of each model says, reading those that are new or have changed.

    The memory is only that: where its file is damaged, or cannot be written, everything is read.
    """
    file = cache_file()
    known = _read(file)
    found: dict[str, Facts] = {}
    n_new = 0
    for model in models:
        key = _key(model)
        facts = known.pop(key, None)
        if facts is None:
            facts = read_facts(model)
            n_new += 1
        found[key] = facts
    if n_new:
        _write(file, {**known, **found})
    return [found[_key(model)] for model in models]


def cache_file() -> Path:
    """Return where the memory is kept."""
    return paths.cache_dir() / "headers.json"


def _key(model: StoredModel) -> str:
    file = model.files[0]
    return "\0".join([str(file.path), str(file.n_bytes), str(file.mtime_ns), model.quantization or ""])


def _read(file: Path) -> dict[str, Facts]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("version") != _VERSION or not isinstance(found.get("headers"), dict):
        return {}
    return {key: Facts(**value) for key, value in found["headers"].items() if _is_sound(value)}


def _is_sound(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= _FIELDS


def _write(file: Path, headers: dict[str, Facts]) -> None:
    from localllm.gguf.new_file import new_file

    kept = list(headers.items())[-MAX_ENTRIES:]
    content = {"version": _VERSION, "headers": {key: _said(facts) for key, facts in kept}}
    try:
        paths.ensure(file.parent)
        with new_file(file) as out:
            out.write(json.dumps(content).encode())
    except LocalLLMError:
        return


def _said(facts: Facts) -> dict[str, Any]:
    return {name: value for name, value in asdict(facts).items() if value is not None}
