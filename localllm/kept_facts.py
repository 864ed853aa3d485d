"""Small facts that are kept between runs, in a file of JSON: measurements, corrections.

They can be measured again, so a file that is damaged, or cannot be written, is as good as none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from localllm.errors import RequestError
from localllm.paths import ensure

MAX_FACTS = 256
"""The oldest beyond these are forgotten."""


class KeptFacts:
    """Facts by key, each a JSON object."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what is kept under `key`, or None."""
        found = self._read().get(key)
        return found if isinstance(found, dict) else None

    def put(self, key: str, fact: dict[str, Any]) -> None:
        """Keep a fact. What another process keeps at the same moment may be lost."""
        facts = self._read()
        facts.pop(key, None)
        facts[key] = fact
        while len(facts) > MAX_FACTS:
            del facts[next(iter(facts))]
        partial = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with contextlib.suppress(OSError, RequestError):
            ensure(self._file.parent)
            partial.write_text(json.dumps(facts), encoding="utf-8")
            partial.replace(self._file)

    def _read(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}
