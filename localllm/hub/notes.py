"""The note beside a file of our own folder: where it is from, and its digest, as JSON in FILE.gguf.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from localllm.gguf.new_file import new_file

NOTE_SUFFIX = ".json"


def note_path(path: Path) -> Path:
    """Return where the note of a file is."""
    return path.with_name(path.name + NOTE_SUFFIX)


def read_note(path: Path) -> dict[str, Any]:
    """Return what is noted of a file; nothing if there is no note, or if it cannot be read.

    Known are "url", "etag" and "n_bytes" of a download, "imported_from" and "how" of an import, and "sha256".
    """
    try:
        found = json.loads(note_path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Write the note of a file.

    Raises:
        RequestError: it cannot be written.
        NotEnoughDisk: the disk is full.
    """
    with new_file(note_path(path)) as file:
        file.write(json.dumps(note, indent=1).encode())
